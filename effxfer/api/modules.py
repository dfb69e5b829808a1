"""The same functions for any `torch.nn.Module`: no model directory is read or written, and nothing is trained here."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from effxfer.api.result import Reported
from effxfer.api.sources import PathLike
from effxfer.errors import GateError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from effxfer.prune.result import PruneResult
    from effxfer.prune.weights.mask import Mask


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class ModuleResult(Reported):
    """A module that was pruned in place.

    Attributes:
        module: The module.
        kept_outputs: By layer that lost outputs, the positions of those that it kept.
        record: The new sizes as plain values, see `effxfer.prune.graph.sizes.apply_sizes`.
        mask: The surviving weights of a ticket; None for other methods.
    """

    module: "nn.Module"
    kept_outputs: Mapping[str, Sequence[int]] = field(default_factory=dict)
    record: Sequence[Mapping[str, Any]] = ()
    mask: "Mask | None" = None


@dataclass(frozen=True, kw_only=True, repr=False)
class ExportedFile(Reported):
    """An ONNX file that was checked against its module.

    Attributes:
        path: The file.
    """

    path: Path

    def facts(self) -> dict[str, Any]:
        """Return the file."""
        return {"file": str(self.path)}


def is_module(source: object) -> "TypeGuard[nn.Module]":
    """Whether a source is a torch module; loads no torch to find out."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(source, torch.nn.Module)


def prune_module(module: "nn.Module", **settings: Any) -> ModuleResult:
    """Remove channels; settings are the arguments of `effxfer.prune.channels.remove.remove_channels`."""
    from effxfer.prune.channels.remove import remove_channels

    return _module_result(module, remove_channels(module, **settings))


def prune_module_to_latency(
    module: "nn.Module", *, ratio: float | None, ms: float | None, **settings: Any
) -> ModuleResult:
    """Remove channels until it is fast; settings are those of `stages.prune.latency.prune_to_measured_latency`."""
    from effxfer.stages.prune.latency import prune_to_measured_latency

    return _module_result(module, prune_to_measured_latency(module, latency_ratio=ratio, latency_ms=ms, **settings))


def compact_module(module: "nn.Module", **settings: Any) -> ModuleResult:
    """Remove units without weights; settings are the arguments of `effxfer.prune.compact.compact.compact`."""
    from effxfer.prune.compact.compact import compact

    return _module_result(module, compact(module, **settings))


def find_ticket_of_module(module: "nn.Module", *, rounds: int | None, **settings: Any) -> ModuleResult:
    """Find a ticket; settings are the arguments of `effxfer.prune.weights.lottery.find_ticket`."""
    from effxfer.prune.weights.lottery import find_ticket, report

    train = settings.pop("train")
    ticket = find_ticket(module, train, rounds=3 if rounds is None else rounds, **settings)
    return ModuleResult(report=report(module, ticket), module=module, mask=ticket.mask)


def reconstruct(
    pruned: ModuleResult, *, dense: "nn.Module", batches: "Sequence[Tensor] | Callable[[], Sequence[Tensor]]"
) -> ModuleResult:
    """Solve the weights of a pruned module for the outputs that its layers had before (least squares), in place.

    Args:
        pruned: What `prune_channels`, `prune_to_latency` or `compact` returned for a module.
        dense: The module before it was pruned; unchanged.
        batches: Inputs `(B, ...)`, some hundred in all; or a function that returns the same ones at each call.

    Returns:
        The same module, with the squared error of each layer before and after.
    """
    from effxfer.prune.recovery.reconstruct import reconstruct_

    inputs = batches if callable(batches) else lambda: batches
    report = reconstruct_(pruned.module, dense, inputs, pruned.kept_outputs)
    return ModuleResult(
        report=report, module=pruned.module, kept_outputs=pruned.kept_outputs, record=pruned.record, mask=pruned.mask
    )


def export_a_module(module: "nn.Module", *, out: PathLike, example: "Tensor", **settings: Any) -> ExportedFile:
    """Write an ONNX file and check it; settings are the arguments of `effxfer.deploy.export.module.export_module`."""
    from effxfer.deploy.export.module import export_module

    return ExportedFile(report=export_module(module, Path(out), example, **settings), path=Path(out))


def quantize_module(
    module: "nn.Module", *, out: PathLike, example: "Tensor", calibration: Any, inputs: Any, labels: Any,
    **settings: Any,
) -> ExportedFile:  # fmt: skip
    """Write an int8 file; settings are the arguments of `effxfer.deploy.int8.search.quantize`.

    Raises:
        GateError: If no int8 file is both faster and accurate enough.
    """
    import numpy as np

    from effxfer.deploy.export.module import export_module
    from effxfer.deploy.int8.search import quantize
    from effxfer.process.scratch import scratch_folder

    with scratch_folder() as folder:
        export_module(module, folder / "fp32.onnx", example)
        file, report = quantize(
            folder / "fp32.onnx", Path(out), calibration=np.asarray(calibration), rows=np.asarray(inputs),
            labels=np.asarray(labels, np.int64), **settings,
        )  # fmt: skip
    if file is None:
        raise GateError("no int8 recipe is both faster and accurate enough", "; ".join(report.notes))
    return ExportedFile(report=report, path=file)


def _module_result(module: "nn.Module", result: "PruneResult") -> ModuleResult:
    return ModuleResult(report=result.report, module=module, kept_outputs=result.kept_outputs, record=result.record)
