import pytest
import torch

from effxfer.errors import ModelFileError
from effxfer.net.edits import apply_edit, rebuild
from effxfer.net.heads.multi_head import build_multi_head
from effxfer.net.heads.spec import HeadSpec
from effxfer.net.heads.task_heads import build_task_heads
from effxfer.net.net import Net
from effxfer.net.taps import example_input
from effxfer.runtime.multi_task.task_outputs import TaskOutputs
from effxfer.runtime.outputs.single_label import SingleLabel
from effxfer.runtime.outputs.tagging import Tagging
from tests.tiny_text import TOKENS, rows, text_net
from tests.transfer.tasks import body, two_tasks


def network() -> Net:
    output, net = two_tasks().output, body()
    apply_edit(net, "set_head", spec={"kind": "mlp", "width": 8}, features=16, classes=list(output.classes),
               output=output.to_json())  # fmt: skip
    return net.eval()


def test_outputs_of_all_tasks_stand_side_by_side():
    head = build_multi_head(HeadSpec(kind="linear"), 5, (2, 3))
    x = torch.randn(4, 5)
    assert torch.equal(head(x), torch.cat([head.heads[0](x), head.heads[1](x)], 1))


@pytest.mark.parametrize("kind", ["prototypes", "compare", "label_words"])
def test_heads_of_one_task_are_refused(kind):
    with pytest.raises(ModelFileError, match="serves one task"):
        build_multi_head(HeadSpec(kind=kind), 5, (2, 3))


@torch.no_grad()
def test_a_kept_task_answers_as_before_and_rebuilds_with_its_masks():
    net = network()
    x = example_input(net)
    expected = net(x)[:, 2:]
    name = "head.heads.1.out.weight"
    apply_edit(net, "sparsify", weights=[name])
    apply_edit(net, "keep_tasks", tasks=["other"])
    assert net.output == SingleLabel(classes=("up", "along"))
    assert torch.equal(net(x), expected)
    assert list(net.masks()) == ["head.out.weight"]
    again = rebuild(net.backbone, net.edits, net.input, net.classes)
    again.load_state_dict(net.state_dict())
    assert torch.equal(again.eval()(x), expected)


@pytest.mark.parametrize("tasks", [["way", "colour"], []])
def test_tasks_that_are_not_there_cannot_be_kept(tasks):
    with pytest.raises(ModelFileError, match="which the network lacks"):
        apply_edit(network(), "keep_tasks", tasks=tasks)


def test_an_output_of_other_tasks_does_not_fit():
    net = network()
    raw = net.output.to_json()
    raw["tasks"][0]["name"] = "else"
    with pytest.raises(ModelFileError, match="other tasks than the heads have"):
        apply_edit(net, "set_output", output=raw)


INTENT, SLOTS = SingleLabel(classes=("call", "play")), Tagging(classes=("B-who", "I-who", "O"))
JOINT = TaskOutputs(outputs={"intent": INTENT, "slots": SLOTS})


@torch.no_grad()
def test_texts_are_pooled_for_one_task_and_not_for_the_other():
    net, ids = text_net(JOINT), torch.from_numpy(TOKENS.feed(rows(4)))
    raw = net(ids)
    assert raw.shape == (4, ids.shape[1], 5)
    of_text, of_words = net.head.answers(net.features(ids))
    torch.testing.assert_close(of_text, net.head.heads[0](net.pooled_taps(ids, ("out",))["out"]))
    torch.testing.assert_close(of_words, net.head.heads[1](net.body(ids)))
    torch.testing.assert_close(raw[:, :, 2:], of_words)
    torch.testing.assert_close(raw[:, 3, :2], of_text)


@torch.no_grad()
@pytest.mark.parametrize(
    ("task", "output", "columns"), [("intent", INTENT, slice(0, 2)), ("slots", SLOTS, slice(2, 5))]
)
def test_a_task_of_texts_or_of_words_stays_alone(task, output, columns):
    net, ids = text_net(JOINT), torch.from_numpy(TOKENS.feed(rows(3)))
    raw = net(ids)
    apply_edit(net, "keep_tasks", tasks=[task])
    assert net.output == output
    torch.testing.assert_close(net(ids), raw[:, 0, columns] if task == "intent" else raw[:, :, columns])


@pytest.mark.parametrize("kind", ["mmoe", "split"])
def test_tags_of_words_need_heads_of_their_own(kind):
    with pytest.raises(ModelFileError, match="a task tags its words"):
        build_task_heads(HeadSpec(kind=kind), 4, (2, 3), (False, True))
