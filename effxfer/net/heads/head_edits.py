"""The edits of a head: set it and what it answers, add classes to it, and leave out tasks."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from effxfer.errors import ModelFileError
from effxfer.net.edit_limits import check_size
from effxfer.net.heads.build import build_head
from effxfer.net.heads.label_words import label_words_head
from effxfer.net.heads.multi_head import MultiHead
from effxfer.net.heads.spec import HeadSpec
from effxfer.net.heads.task_heads import build_task_heads
from effxfer.net.net import Net, mask_name
from effxfer.runtime.multi_task.task_outputs import TaskOutputs
from effxfer.runtime.outputs.base import Output
from effxfer.runtime.outputs.registry import output_from_json
from effxfer.runtime.outputs.single_label import SingleLabel
from effxfer.settings import build

TASK_PARTS = ("head.gates.", "head.heads.", "head.pool.tasks.")  # lists with an entry for each task


def set_head(
    net: Net,
    *,
    spec: Mapping[str, Any],
    features: int | Sequence[int],
    classes: Sequence[str],
    taps: Sequence[str] = ("out",),
    output: Mapping[str, Any] | None = None,
    embeddings: int = 0,
) -> None:
    """Set an untrained head, fed by the named layers; `features` are the channels of each, or their sum.

    `output` says what its columns mean where they are not single labels of `classes`; `embeddings` how many numbers
    describe a class that a head of kind `compare` knows.
    """
    check_size("head", features if isinstance(features, int) else sum(features))
    head = build(HeadSpec, spec, "head")
    if head.position_pools and net.input.kind == "text":
        text = f"a head that pools by {head.position_pools[0]} would see the padding of texts"
        raise ModelFileError(text, "give pool = 'mean'")
    check_size("class_embeddings", embeddings)
    if (head.kind == "compare") != (embeddings > 0):
        text = f"an edit sets a {head.kind} head with {embeddings} numbers of each class"
        raise ModelFileError(text, "get an intact copy", code="E404")
    tasks = read_output(output) if output else None
    if isinstance(tasks, TaskOutputs):
        widths = [each.width for each in tasks.outputs.values()]
        net.head = build_task_heads(head, features, widths, tasks.positions)
    elif head.kind == "label_words":
        net.head = label_words_head(net, len(classes))
    else:
        net.head = build_head(head, features, len(classes), embeddings)
    net.output, net.taps = SingleLabel(classes=tuple(classes)), tuple(taps)
    net.text = None  # another head has another space
    if output:
        set_output(net, output=output)
    if net.output.per == "position" and (reason := _position_mistake(net, head)):
        raise ModelFileError(f"labels of kind {net.output.kind!r} need {reason}", "give another head")


def _position_mistake(net: Net, head: HeadSpec) -> str:
    """Return what a head for each position of a text lacks; empty if it works on tokens `(B, n, D)`."""
    if net.input.kind != "text":
        return "a network of texts"
    # Their statistics and angles are of one vector for each example.
    vectors = head.kind not in ("linear", "mlp") or head.standardize or head.norm == "batch"
    return "a linear or mlp head without standardize and batch norm" if vectors else ""


def set_output(net: Net, *, output: Mapping[str, Any]) -> None:
    """Set the kind of label that the head answers with, such as thresholds that were chosen after training.

    Raises:
        ModelFileError: If it is unreadable, or has other columns than the head.
    """
    new = read_output(output)
    if len(new.classes) != len(net.classes):
        text = f"an edit names {len(new.classes)} columns of a head that has {len(net.classes)}"
        raise ModelFileError(text, "get an intact copy", code="E404")
    if isinstance(net.output, TaskOutputs) and getattr(new, "names", ()) != net.output.names:
        raise ModelFileError("an edit names other tasks than the heads have", "get an intact copy", code="E404")
    net.output = new


def read_output(output: Mapping[str, Any]) -> Output:
    """Read the output of an edit.

    Raises:
        ModelFileError: If it is unreadable.
    """
    try:
        return output_from_json(output)
    except ValueError as error:
        raise ModelFileError(f"an edit sets an unreadable output: {error}", "get an intact copy", code="E404") from None


def keep_tasks(net: Net, *, tasks: Sequence[str]) -> None:
    """Remove the heads of all other tasks; a single one becomes the network's plain head.

    Raises:
        ModelFileError: If the network has no such tasks, or its head cannot do without one of them.
    """
    output, head = net.output, net.head
    names = output.names if isinstance(output, TaskOutputs) else ()
    if not isinstance(output, TaskOutputs) or not isinstance(head, MultiHead) or not tasks or {*tasks} - {*names}:
        raise ModelFileError(f"an edit keeps the tasks {', '.join(tasks)}, which the network lacks", code="E404")
    numbers = [number for number, name in enumerate(output.names) if name in tasks]
    net.head = head.select(numbers)
    # Masks are called by the path of their weight, which counts the tasks; other parts serve every task.
    for part in TASK_PARTS:
        for weight in [name for name in net.masks() if name.startswith(part)]:
            _move_mask(net, weight, part, numbers)
    net.output = output.select(tasks)


def _move_mask(net: Net, weight: str, part: str, numbers: Sequence[int]) -> None:
    """Rename the mask of a task's weight after the heads were selected, or remove it with its task."""
    mask = net.masks()[weight]
    delattr(net, mask_name(weight))
    number, leaf = weight.removeprefix(part).split(".", 1)
    if int(number) in numbers:
        owner = f"{part}{numbers.index(int(number))}." if isinstance(net.head, MultiHead) else "head."
        net.register_buffer(mask_name(owner + leaf), mask)


def grow_head(net: Net, *, classes: Sequence[str]) -> None:
    """Add untrained rows for more classes behind those of the head; `classes` are all, the present ones first.

    Raises:
        ModelFileError: If the head has no row for each class, or they are not its own and further ones.
    """
    check_size("head", len(classes))
    if tuple(classes[: len(net.classes)]) != net.classes or not isinstance(net.output, SingleLabel):
        text = "an edit adds classes to a head, and does not begin with those that it has"
        raise ModelFileError(text, "get an intact copy", code="E404")
    before = getattr(net.head, "out", None)
    if not isinstance(before, nn.Linear) or before.out_features != len(net.classes):
        text = "the head has no row of its own for each class"
        raise ModelFileError(f"{text}, to which others could be added", "give it a linear head")
    net.head.out = _longer(before, len(classes))
    for name in ("weight", "bias"):
        if (mask := net.masks().get(f"head.out.{name}")) is not None:
            rows = mask.new_ones((len(classes) - len(mask), *mask.shape[1:]))
            net.register_buffer(mask_name(f"head.out.{name}"), torch.cat([mask, rows]))
    net.output = SingleLabel(classes=tuple(classes))


@torch.no_grad()
def _longer(layer: nn.Linear, rows: int) -> nn.Linear:
    """Return a layer with more rows, whose first are those of `layer`."""
    longer = nn.Linear(layer.in_features, rows, bias=layer.bias is not None).to(layer.weight)
    longer.weight[: layer.out_features] = layer.weight
    if layer.bias is not None:
        longer.bias[: layer.out_features] = layer.bias
    return longer
