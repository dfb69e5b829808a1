"""The head that a network has, or gets, for a task."""

from collections.abc import Mapping
from typing import Any

import torch

from effxfer.data.task import Task
from effxfer.net.edits import apply_edit
from effxfer.net.net import Net
from effxfer.net.taps import tap_widths


def new_head(net: Net, task: Task, seed: int, spec: Mapping[str, Any] | None = None) -> bool:
    """Give a network a new head, unless it has one with the task's classes.

    Args:
        net: Changed in place.
        task: Names the classes.
        seed: Of the new weights.
        spec: What the head must be; None is any, and a linear one where it is new.

    Returns:
        Whether it got one.
    """
    if net.classes == task.classes and (spec is None or spec == head_of(net)):
        return False
    torch.manual_seed(seed)
    net.smoothing = 0.0
    apply_edit(
        net,
        "set_head",
        spec=dict(spec or {"kind": "linear"}),
        features=tap_widths(net, ("out",))["out"],
        classes=list(task.classes),
    )
    return True


def head_of(net: Net) -> Mapping[str, Any]:
    """Say what head a network has; nothing before its first."""
    return next((edit["spec"] for edit in reversed(net.edits) if edit["kind"] == "set_head"), {})
