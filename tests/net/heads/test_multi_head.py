import pytest
import torch

from effxfer.errors import ModelFileError
from effxfer.net.edits import apply_edit, rebuild
from effxfer.net.heads.multi_head import build_multi_head
from effxfer.net.heads.spec import HeadSpec
from effxfer.net.net import Net
from effxfer.net.taps import example_input
from effxfer.runtime.outputs.single_label import SingleLabel
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
