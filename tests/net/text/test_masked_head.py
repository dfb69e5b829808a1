from copy import deepcopy

import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("tokenizers")

import transformers

from effxfer.errors import ModelFileError, SettingsError
from effxfer.net.backbones.pretrained import open_backbone
from effxfer.net.edits import apply_edit, body_edits, rebuild
from effxfer.net.net import Net
from effxfer.net.settings import BackboneSettings
from effxfer.net.text.masked_head import MaskedHead, head_tensors, masked_head
from effxfer.runtime.outputs.masked_token import MaskedToken
from tests.net.text.folders import VOCABULARY, write_folder
from tests.transfer.tasks import body
from tests.transfer.text_tasks import ENCODER, encoder

IDS = torch.randint(5, len(range(30)), (3, 9), generator=torch.Generator().manual_seed(0))


def masked(seed: int = 0) -> Net:
    net = encoder(seed)
    apply_edit(net, "set_masked_head")
    return net.eval()


def test_it_gives_logits_of_the_vocabulary_for_each_token():
    net = masked()
    assert net(IDS).shape == (3, 9, ENCODER["vocabulary"])
    assert net.output == MaskedToken(vocabulary=ENCODER["vocabulary"])


def test_its_decoder_is_the_table_of_embeddings_and_is_saved_once():
    net = masked()
    assert not [name for name, tensor in net.head.state_dict().items() if tensor.shape == (ENCODER["vocabulary"], 24)]
    before = net(IDS)
    net.body.embeddings.tokens.weight.data[7] += 1
    assert not torch.equal(net(IDS)[..., 7], before[..., 7])


def test_a_copy_has_its_own_table():
    net = masked()
    copy = deepcopy(net)
    expected = net(IDS)
    copy.body.embeddings.tokens.weight.data.zero_()
    assert torch.equal(net(IDS), expected)
    assert isinstance(copy.head, MaskedHead)
    assert torch.equal(copy.head(torch.randn(2, 24)), copy.head.bias.expand(2, -1))


def test_it_is_rebuilt_from_its_edit():
    net = masked(seed=1)
    again = rebuild(net.backbone, net.edits, net.input)
    again.load_state_dict(net.state_dict())
    assert torch.equal(again.eval()(IDS), net(IDS))
    assert body_edits(net.edits) == []


def test_only_text_encoders_have_it():
    with pytest.raises(SettingsError, match=r"guessed by a text encoder, and effxfer\.net\.cifar:resnet20 is none"):
        apply_edit(body(), "set_masked_head")


@pytest.mark.parametrize("kind", ["bert", "distilbert", "roberta", "electra-relu", "bert-tanh"])
def test_a_folder_with_a_head_for_masked_tokens_gives_the_logits_of_transformers(kind, tmp_path):
    torch.manual_seed(0)
    model = write_folder(tmp_path, kind, head="AutoModelForMaskedLM")
    if kind == "electra-relu":
        pytest.skip("ELECTRA's generator has an activation of its own") if model.config.hidden_act != "gelu" else None
    net, _ = open_backbone(BackboneSettings(source=f"hf:{tmp_path}"))
    assert masked_head(net) is not None
    ids = torch.randint(5, VOCABULARY, (2, 12))
    with torch.inference_mode():
        assert torch.allclose(net.eval()(ids), model(input_ids=ids).logits, atol=1e-4)


def test_a_folder_without_a_head_gives_a_network_without_one(tmp_path):
    write_folder(tmp_path, "bert")
    net, _ = open_backbone(BackboneSettings(source=f"hf:{tmp_path}"))
    assert masked_head(net) is None
    assert net.edits == []


def test_a_decoder_of_its_own_is_left_out(tmp_path):
    config = {"tie_word_embeddings": False}
    model = write_folder(tmp_path, "bert", head="AutoModelForMaskedLM", **config)
    assert isinstance(model, transformers.BertForMaskedLM)
    net, _ = open_backbone(BackboneSettings(source=f"hf:{tmp_path}"))
    assert masked_head(net) is None


def test_a_head_that_does_not_fit_the_embeddings_is_refused(tmp_path):
    table = torch.zeros(20, 8)
    stored = {"masked.dense.weight": torch.zeros(8, 8), "masked.dense.bias": torch.zeros(8)}
    stored |= {"masked.norm.weight": torch.ones(8), "masked.norm.bias": torch.zeros(8), "masked.bias": torch.zeros(19)}
    with pytest.raises(ModelFileError, match="does not fit its embeddings") as caught:
        head_tensors(stored, table, tmp_path)
    assert caught.value.code == "E405"
