import pytest
import torch

pytest.importorskip("tokenizers")

from effxfer.errors import ModelFileError
from effxfer.net.edits import apply_edit, rebuild
from effxfer.net.heads.label_words import LabelWords, reads_mask
from tests.transfer.tasks import body
from tests.transfer.text_tasks import INPUT, encoder_with_masked_head, text_task

LABELS = {"spec": {"kind": "label_words"}, "features": 24, "classes": ["bad", "good"]}


def test_rows_start_as_the_mean_over_the_tokens_of_a_word():
    net = encoder_with_masked_head()
    before, table = net.head, net.body.embeddings.tokens.weight
    torch.nn.init.normal_(before.bias)
    apply_edit(net, "set_head", **LABELS)
    net.head.start_rows_(table, before.bias, [[7], [5, 9]])
    assert torch.equal(net.head.out.weight[0], table[7])
    assert torch.allclose(net.head.out.weight[1], (table[5] + table[9]) / 2)
    assert torch.allclose(net.head.out.bias, torch.stack([before.bias[7], (before.bias[5] + before.bias[9]) / 2]))


def test_the_start_answers_what_the_head_for_masked_tokens_says_of_the_words():
    """Without any training: logits of the classes are those of their words at the place of the mask."""
    net, task = encoder_with_masked_head().eval(), text_task(pattern="{text} it was [MASK] .")
    ids = torch.from_numpy(task.input.feed(task.train.rows[:5]))
    net.input = task.input
    guessed = net(ids)[ids == task.input.loaded.mask][:, [7, 9]]
    before = net.head
    apply_edit(net, "set_head", **LABELS)
    net.head.start_rows_(net.body.embeddings.tokens.weight, before.bias, [[7], [9]])
    assert torch.allclose(net(ids), guessed, atol=1e-6)


def test_it_is_rebuilt_with_the_same_layers():
    net = encoder_with_masked_head()
    apply_edit(net, "set_head", **LABELS)
    again = rebuild(net.backbone, net.edits, net.input, net.classes)
    assert isinstance(again.head, LabelWords)
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in net.state_dict().items()}
    assert reads_mask(again.head)


def test_a_network_of_images_has_no_words():
    with pytest.raises(ModelFileError, match="text encoder"):
        apply_edit(body(), "set_head", **LABELS)


def test_an_input_of_a_prompt_has_its_mask_where_networks_are_traced():
    input = text_task(pattern="{text} it was [MASK] .").input
    assert (input.is_mask(input.example(3, seed=1)).sum(1) == 1).all()
    assert not INPUT.is_mask(INPUT.example()).any()
