from dataclasses import replace

import pytest
import torch

pytest.importorskip("tokenizers")

from effxfer.errors import SettingsError
from effxfer.runtime.text.pretrained import build_wordpiece
from effxfer.runtime.text.tokens import Tokens
from effxfer.settings import build
from effxfer.transfer.text.prompt import Prompt, word_ids
from tests.runtime.text.tiny_tokenizers import byte_level, ids
from tests.transfer.tasks import adapt
from tests.transfer.text_tasks import encoder, encoder_with_masked_head, text_task

PATTERN, WORDS = "{text} it was [MASK] .", {"bad": "cat", "good": "mat"}
STRATEGY = Prompt(batch=8, pattern=PATTERN, words=WORDS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pattern": "it was [MASK] ."}, "lacks {text}"),
        ({"pattern": "{text} it was great ."}, "has no masks"),
        ({"pattern": "{text} [MASK] [MASK]"}, "has 2 masks"),
        ({"words": {"bad": "cat", "good": "cat"}}, "'cat' stands for several classes"),
    ],
)
def test_a_pattern_without_text_or_mask_and_a_word_of_two_classes_are_refused(options, message):
    with pytest.raises(SettingsError, match=message):
        build(Prompt, options, "options")


def test_words_are_those_of_the_classes():
    STRATEGY.require_classes(("bad", "good"))
    Prompt().require_classes(("bad", "good"))
    with pytest.raises(SettingsError, match="no word for so so"):
        STRATEGY.require_classes(("bad", "good", "so so"))
    with pytest.raises(SettingsError, match="a word for 'bad', which is no class") as caught:
        STRATEGY.require_classes(("good",))
    assert "good = ..." in caught.value.hint


def test_a_word_without_a_token_is_refused_and_one_of_several_has_them_all():
    loaded = text_task().input.loaded
    assert word_ids(loaded, "playing") == ids("play", "##ing")
    for word in ("zebra", "", "  "):
        with pytest.raises(SettingsError, match="no token of its own"):
            word_ids(loaded, word)


def test_a_word_of_a_byte_level_tokenizer_is_one_within_a_text():
    loaded = Tokens(tokenizer=byte_level(), size=16, pad=1).loaded
    assert word_ids(loaded, "cat") == [loaded.tokens["Ġcat"]]


def test_a_network_without_the_head_or_without_the_mask_is_refused():
    with pytest.raises(SettingsError, match="no head that guesses masked tokens") as caught:
        STRATEGY.input_for(encoder())
    assert "effxfer pretrain" in caught.value.hint
    net = encoder_with_masked_head()
    words = build_wordpiece(b"[PAD]\n[UNK]\n[CLS]\n[SEP]\na\nb", {})
    net.input = replace(net.input, tokenizer=words)
    with pytest.raises(SettingsError, match="the tokenizer has no mask"):
        STRATEGY.input_for(net)


def test_a_mask_of_another_tokenizer_is_refused():
    with pytest.raises(SettingsError, match="no mask that the network's tokenizer knows") as caught:
        Prompt(pattern="{text} it was <mask>").input_for(encoder_with_masked_head())
    assert "[MASK]" in caught.value.hint


def test_a_pattern_that_leaves_no_room_for_a_text_is_refused():
    net = encoder_with_masked_head()
    net.input = net.input.with_size(6)
    with pytest.raises(SettingsError, match="no room for a text"):
        STRATEGY.input_for(net)


def test_texts_that_are_cut_keep_the_mask():
    input = STRATEGY.input_for(encoder_with_masked_head())
    rows = input.encode(["cat " * 200, "", "a [MASK] b"]).rows
    assert rows.lengths.max() == input.size
    assert [int(input.is_mask(row).sum()) for row in rows] == [1, 1, 1]


def test_an_answer_does_not_depend_on_the_batch():
    task = text_task(pattern=PATTERN)
    net, *_ = adapt(STRATEGY, task, encoder_with_masked_head(), epochs=1)
    net.eval()
    batch = net(torch.from_numpy(task.input.feed(task.val.rows)))
    alone = [net(torch.from_numpy(task.input.feed(task.val.rows[i : i + 1]))) for i in range(4)]
    assert torch.allclose(batch[:4], torch.cat(alone), atol=1e-5)


def test_a_second_training_goes_on_with_the_rows():
    task = text_task(pattern=PATTERN)
    net, *_ = adapt(STRATEGY, task, encoder_with_masked_head(), epochs=1)
    _, before, _, _ = adapt(STRATEGY, task, net, epochs=0)
    assert torch.equal(net.head.out.weight, before["head.out.weight"])
    table = net.body.embeddings.tokens.weight
    assert not torch.allclose(net.head.out.weight[0], table[ids("cat")[0]])
