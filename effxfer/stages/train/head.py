"""Give a network a head for a task."""

from collections.abc import Mapping
from typing import Any

import torch

from effxfer.data.class_embeddings import require_class_embeddings
from effxfer.data.continual.memory import Memory
from effxfer.data.labels.tasks import select_tasks
from effxfer.data.task import Task
from effxfer.errors import DataError
from effxfer.net.compression.early_exit import check_exit, find_modules_after
from effxfer.net.edits import apply_edit
from effxfer.net.heads.compare import Compare
from effxfer.net.net import Net
from effxfer.net.taps import stage_maps, tap_widths
from effxfer.report import Report
from effxfer.runtime.multi_task.task_outputs import TaskOutputs
from effxfer.runtime.outputs.multi_label import MultiLabel
from effxfer.runtime.outputs.span import Span
from effxfer.train.devices import Device
from effxfer.train.evaluate import predict


def new_head(net: Net, task: Task, seed: int, spec: Mapping[str, Any] | None = None) -> bool:
    """Give a network a new head, unless it has one for the task's kind of label and classes.

    Args:
        net: Network, changed in place.
        task: Task with the classes.
        seed: Random seed of the new weights.
        spec: Required `HeadSpec`. None accepts any existing head; a new one is then linear.

    Returns:
        Whether the head is new.
    """
    embeddings = _embeddings_for(task, spec)
    if answers_task(net, task) and (spec is None or (spec == head_of(net) and embeddings == _embeddings_of(net))):
        return False
    torch.manual_seed(seed)
    # It has seen no smoothed labels yet, and a memory says which columns of the former head its examples belong to.
    net.smoothing, net.memory = 0.0, None
    spec = dict(spec or {"kind": "linear"})
    apply_edit(
        net, "set_head", spec=spec, **_layers_for(net, spec), **head_columns(task),
        **({"embeddings": embeddings} if embeddings else {}),
    )  # fmt: skip
    if spec["kind"] == "mtan":
        end_body(net, net.taps[-1])
    return True


def _layers_for(net: Net, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of the edit `set_head` that say what feeds a head: the body's output, or its stages."""
    if spec["kind"] != "mtan":
        return {"features": tap_widths(net, ("out",))["out"]}
    taps = stage_maps(net)
    widths = tap_widths(net, taps)
    return {"features": [widths[tap] for tap in taps], "taps": taps}


def end_body(net: Net, tap: str) -> None:
    """Remove the layers of the body behind the deepest one that feeds the head, where that is possible."""
    removed = find_modules_after(net, tap)
    if check_exit(net, tap, removed):
        apply_edit(net, "cut", gone=removed)


def dropped_memory_note(net: Net, memory: Memory | None) -> Report:
    """Warn (W386) that a new head has dropped the memory that a network had before it."""
    if memory is None or net.memory is not None:
        return Report()
    names = ", ".join(str(task["name"]) for task in memory.tasks)
    text = f"W386 the memory of earlier tasks ({names}) is dropped with the head that knew them"
    return Report(notes=(f"{text}: `continual` learns other classes beside them",))


def _embeddings_for(task: Task, spec: Mapping[str, Any] | None) -> int:
    """Return how many numbers describe a class, for a head that compares features with them; else 0."""
    if not spec or spec.get("kind") != "compare":
        return 0
    return int(require_class_embeddings(task).shape[1])


def _embeddings_of(net: Net) -> int:
    return int(net.head.table.shape[1]) if isinstance(net.head, Compare) else 0


def answers_task(net: Net, task: Task) -> bool:
    """Whether a network's head is for a task's kind of label and classes."""
    return net.output.kind == task.output.kind and net.classes == task.classes


def head_columns(task: Task) -> dict[str, Any]:
    """Return the arguments of the edit `set_head` that name its columns; the output only if they are no classes."""
    output = {} if task.output.kind == "single" else {"output": task.output.to_json()}
    return {"classes": list(task.classes), **output}


def head_of(net: Net) -> Mapping[str, Any]:
    """Return the `HeadSpec` of a network's head; empty if it never got one."""
    return next((edit["spec"] for edit in reversed(net.edits) if edit["kind"] == "set_head"), {})


def choose_thresholds(net: Net, task: Task, device: Device) -> None:
    """Choose, on the validation split, what the decisions of a trained network depend on; record it as an edit.

    Of the kinds of label, several labels have a threshold each, and answers one for no answer; tasks have their own.
    """
    if not isinstance(net.output, MultiLabel | Span | TaskOutputs):
        return
    raw = predict(net, task.val.rows, net.input, device).numpy()
    output = net.output.fit_decision(raw, task.val.labels)
    net.edits[:] = [edit for edit in net.edits if edit["kind"] != "set_output"]
    apply_edit(net, "set_output", output=output.to_json())


def deliver_tasks(net: Net, task: Task) -> Task:
    """Remove a network's heads of auxiliary tasks; return the task with the questions that it then answers.

    Raises:
        DataError: If the network answers other questions than the task asks.
    """
    # Of a network that was delivered before, the data still have all tasks.
    delivered_before = next((edit["tasks"] for edit in reversed(net.edits) if edit["kind"] == "keep_tasks"), None)
    if delivered_before and isinstance(task.output, TaskOutputs):
        task = select_tasks(task, delivered_before)
    require_same_output(net, task)
    if not isinstance(net.output, TaskOutputs) or not net.output.auxiliary:
        return task
    delivered = net.output.delivered
    apply_edit(net, "keep_tasks", tasks=list(delivered))
    return select_tasks(task, delivered)


def require_same_output(net: Net, task: Task) -> None:
    """Check that a network answers what a task asks.

    Raises:
        DataError: If kinds of label or classes differ.
    """
    if net.output.kind != task.output.kind:
        text = f"the network knows labels of kind {net.output.kind!r}, the data hold kind {task.output.kind!r}"
        raise DataError(text, "finetune it first")
    if net.classes != task.classes:
        raise DataError(
            f"the network knows {list(net.classes)}, the data hold {list(task.classes)}", "finetune it first"
        )
