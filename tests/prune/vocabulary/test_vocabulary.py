from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tokenizers", reason="texts need the package tokenizers")

from effxfer.deploy.export.logits import torch_logits
from effxfer.errors import ModelFileError, SettingsError
from effxfer.net.edits import apply_edit, rebuild
from effxfer.net.net import KEEP, Net
from effxfer.prune.vocabulary.vocabulary import prune_vocabulary, used_tokens
from effxfer.runtime.rows import Ragged
from effxfer.runtime.text.tokens import Tokens
from tests.prune.vocabulary.test_tokenizer import trained_wordpiece
from tests.tiny_net import PREPROCESS
from tests.tiny_text import TOKENS, rows, text_net, texts

IMAGES = {"source": "effxfer.net.cifar:resnet20", "args": {}}
BERT = Tokens(tokenizer=trained_wordpiece(), size=40, pad=0)


def bert(seed: int = 0) -> Net:
    """A network with segments, whose separator gets another id."""
    torch.manual_seed(seed)
    args = {
        "vocabulary": 1 + BERT.loaded.largest_id, "width": 16, "layers": 2, "heads": 2, "mlp": 32, "positions": 64,
        "segments": 2, "separator": BERT.loaded.tokens["[SEP]"],
    }  # fmt: skip
    net = Net({"source": "effxfer.net.text.encoder:Encoder", "args": args}, BERT)
    for parameter in net.body.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    apply_edit(net, "set_head", spec={}, features=16, classes=["a", "b"])
    torch.nn.init.normal_(net.head.out.weight)
    return net.eval()


WORDS = st.text(alphabet="abcd .", max_size=30)


@settings(max_examples=15, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=5), st.integers(0, 3))
def test_outputs_for_texts_whose_tokens_stay_are_equal_to_the_bit(train, seed):
    net = bert(seed)
    before = BERT.encode(train).rows
    expected = torch_logits(net, before, net.input)
    ids = prune_vocabulary(net, used_tokens([before]).tolist())
    after = net.input.encode(train).rows
    np.testing.assert_array_equal(ids[after.values], before.values)
    np.testing.assert_array_equal(torch_logits(net, after, net.input), expected)
    assert len(ids) == net.body.embeddings.tokens.num_embeddings < net.backbone["args"]["vocabulary"]
    assert net.body.separator == net.input.loaded.tokens["[SEP]"] != BERT.loaded.tokens["[SEP]"]


def test_pairs_have_their_segments_as_before():
    net = bert()
    net.input = replace(BERT, pattern="{text}{sep}{other}")
    pairs = [("ab cd", "a b c"), ("dd", "abcd abcd")]
    before = net.input.encode(pairs).rows
    expected = torch_logits(net, before, net.input)
    prune_vocabulary(net, used_tokens([before]).tolist())
    np.testing.assert_array_equal(torch_logits(net, net.input.encode(pairs).rows, net.input), expected)


def test_a_head_for_masked_tokens_shrinks_with_the_table():
    net = bert()
    apply_edit(net, "set_masked_head")
    torch.nn.init.normal_(net.head.bias)
    text = BERT.encode(["ab . cd", "a"]).rows
    before = torch_logits(net, text, net.input)
    ids = prune_vocabulary(net, used_tokens([text]).tolist())
    after = torch_logits(net, net.input.encode(["ab . cd", "a"]).rows, net.input)
    np.testing.assert_array_equal(after, before[..., ids])
    assert net.output.width == len(net.head.bias) == len(ids)
    again = rebuild(net.backbone, net.edits, net.input, net.classes)
    again.load_state_dict(net.state_dict())
    assert again.output == net.output


def test_a_prompt_reads_its_mask_under_another_id():
    net = bert()
    net.input = replace(BERT, pattern="{text} [MASK]")
    apply_edit(net, "set_masked_head")
    apply_edit(net, "set_head", spec={"kind": "label_words"}, features=16, classes=["a", "b"])
    torch.nn.init.normal_(net.head.out.weight)
    text = net.input.encode(["ab . cd", "a"]).rows
    before = torch_logits(net, text, net.input)
    prune_vocabulary(net, used_tokens([text]).tolist())
    after = net.input.encode(["ab . cd", "a"]).rows
    np.testing.assert_array_equal(torch_logits(net, after, net.input), before)
    assert net.input.loaded.mask != BERT.loaded.mask


def test_the_network_is_rebuilt_from_its_edits():
    net = bert()
    prune_vocabulary(net, [])
    again = rebuild(net.backbone, net.edits, net.input, net.classes)
    again.load_state_dict(net.state_dict())
    text = net.input.encode(["ab . cd"]).rows
    np.testing.assert_array_equal(torch_logits(again.eval(), text, net.input), torch_logits(net, text, net.input))
    assert (again.body.pad, again.body.separator) == (net.body.pad, net.body.separator)
    kept = net.state_dict()
    assert len(prune_vocabulary(net, range(10_000))) == len(kept["body.embeddings.tokens.weight"])


def test_a_mask_of_the_table_keeps_its_rows():
    net = text_net()
    apply_edit(net, "sparsify", weights=["body.embeddings.tokens.weight"])
    name = f"{KEEP}body/embeddings/tokens/weight"
    mask = torch.rand_like(net.body.embeddings.tokens.weight) > 0.5
    net.get_buffer(name).copy_(mask)
    ids = prune_vocabulary(net, used_tokens([rows(2)]).tolist())
    assert torch.equal(net.get_buffer(name), mask[torch.from_numpy(ids)])
    assert set(rebuild(net.backbone, net.edits, net.input).state_dict()) >= {name}


def test_padding_without_a_token_keeps_a_row():
    spare = max(TOKENS.loaded.tokens.values()) + 1
    net = text_net(tokens=replace(TOKENS, pad=spare))
    grown = torch.nn.Embedding(spare + 1, 32)
    with torch.no_grad():
        grown.weight[:spare] = net.body.embeddings.tokens.weight
    net.body.embeddings.tokens, net.body.pad = grown, spare
    text = net.input.encode(texts(4)).rows
    expected = torch_logits(net, text, net.input)
    ids = prune_vocabulary(net, used_tokens([text]).tolist())
    assert (ids[net.input.pad], net.body.pad) == (spare, net.input.pad)
    assert not {net.input.pad} & set(net.input.loaded.tokens.values())
    again = net.input.encode(texts(4)).rows
    np.testing.assert_array_equal(torch_logits(net, again, net.input), expected)


def test_counts_of_several_data_sets_add_up():
    one, two = Ragged.of([np.array([5, 7, 7])]), Ragged.of([np.array([5, 9])])
    assert used_tokens([one, two]).tolist() == [5, 7, 9]
    assert used_tokens([one, two], 2).tolist() == [5, 7]
    assert used_tokens([one, two], 3).tolist() == []


def test_networks_without_a_vocabulary_are_refused():
    with pytest.raises(SettingsError, match="takes images has no vocabulary"):
        prune_vocabulary(Net(IMAGES, PREPROCESS), [])
    net = text_net()
    net.body = torch.nn.Embedding(30, 32)
    with pytest.raises(ModelFileError, match="Embedding is no encoder") as caught:
        prune_vocabulary(net, [])
    assert caught.value.code == "E447"


@pytest.mark.parametrize("wrong", [{"tokens": 10_000}, {"pad": 99}, {"separator": -2}, {"tokens": 0}])
def test_an_edit_that_no_pruning_made_is_refused(wrong):
    with pytest.raises(ModelFileError, match="an edit keeps"):
        apply_edit(text_net(), "prune_vocabulary", **{"tokens": 20, "pad": 0, "separator": 3, **wrong})
    with pytest.raises(ModelFileError, match="a body without one"):
        apply_edit(Net(IMAGES, PREPROCESS), "prune_vocabulary", tokens=20, pad=0, separator=3)
