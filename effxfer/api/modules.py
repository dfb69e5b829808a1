"""The API's functions for any `torch.nn.Module`, without model directories and without training."""

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
        module: The pruned module.
        kept_outputs: Positions of the kept outputs, by the name of each layer that lost outputs.
        record: New sizes of the layers as plain values, which `effxfer.prune.graph.sizes.apply_sizes` replays on a new
            instance of the module.
        mask: Mask of the kept weights of a ticket; None for other methods.
    """

    module: "nn.Module"
    kept_outputs: Mapping[str, Sequence[int]] = field(default_factory=dict)
    record: Sequence[Mapping[str, Any]] = ()
    mask: "Mask | None" = None


@dataclass(frozen=True, kw_only=True, repr=False)
class ExportedFile(Reported):
    """An ONNX file of a module, and the measurements of its check.

    Attributes:
        path: Path of the file.
    """

    path: Path

    def facts(self) -> dict[str, Any]:
        """Return the path of the file."""
        return {"file": str(self.path)}


def is_module(source: object) -> "TypeGuard[nn.Module]":
    """Whether a source is a torch module; does not load torch."""
    # Nothing is a module before torch was imported, which takes seconds.
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(source, torch.nn.Module)


def prune_module(module: "nn.Module", **settings: Any) -> ModuleResult:
    """Remove channels of a module; `settings` are arguments of `effxfer.prune.channels.remove.remove_channels`."""
    from effxfer.prune.channels.remove import remove_channels

    return _module_result(module, remove_channels(module, **settings))


def prune_module_to_latency(
    module: "nn.Module", *, ratio: float | None, ms: float | None, **settings: Any
) -> ModuleResult:
    """Prune a module to a latency; `settings` are arguments of `stages.prune.latency.prune_to_measured_latency`."""
    from effxfer.stages.prune.latency import prune_to_measured_latency

    return _module_result(module, prune_to_measured_latency(module, latency_ratio=ratio, latency_ms=ms, **settings))


def compact_module(module: "nn.Module", **settings: Any) -> ModuleResult:
    """Remove units without weights of a module; `settings` are arguments of `effxfer.prune.compact.compact.compact`."""
    from effxfer.prune.compact.compact import compact

    return _module_result(module, compact(module, **settings))


def find_ticket_of_module(module: "nn.Module", *, rounds: int | None, **settings: Any) -> ModuleResult:
    """Find a ticket of a module; `settings` are arguments of `effxfer.prune.weights.lottery.find_ticket`."""
    from effxfer.prune.weights.lottery import find_ticket, report

    train = settings.pop("train")
    # 3, as `prune lottery`.
    ticket = find_ticket(module, train, rounds=3 if rounds is None else rounds, **settings)
    return ModuleResult(report=report(module, ticket), module=module, mask=ticket.mask)


def reconstruct(
    pruned: ModuleResult, *, dense: "nn.Module", batches: "Sequence[Tensor] | Callable[[], Sequence[Tensor]]"
) -> ModuleResult:
    """Fit the weights of a pruned module by least squares to the layer outputs of the unpruned one, in place.

    Args:
        pruned: Result of `prune_channels`, `prune_to_latency` or `compact` for a module.
        dense: The module before pruning; it is not changed.
        batches: Sequence of input batches `(B, ...)`, some hundred inputs in all, or a function that returns the same
            sequence at each call.

    Returns:
        The same module, with the squared error of each layer before and after.

    Examples:
        >>> dense = copy.deepcopy(module)
        >>> pruned = ex.prune_channels(module, example=inputs, ratio=0.5)
        >>> print(ex.reconstruct(pruned, dense=dense, batches=[inputs]))
    """
    from effxfer.prune.recovery.reconstruct import reconstruct_

    inputs = batches if callable(batches) else lambda: batches
    report = reconstruct_(pruned.module, dense, inputs, pruned.kept_outputs)
    return ModuleResult(
        report=report, module=pruned.module, kept_outputs=pruned.kept_outputs, record=pruned.record, mask=pruned.mask
    )


def export_a_module(module: "nn.Module", *, out: PathLike, example: "Tensor", **settings: Any) -> ExportedFile:
    """Export a module and check the file; `settings` are arguments of `effxfer.deploy.export.module.export_module`."""
    from effxfer.deploy.export.module import export_module

    return ExportedFile(report=export_module(module, Path(out), example, **settings), path=Path(out))


def quantize_module(
    module: "nn.Module", *, out: PathLike, example: "Tensor", calibration: Any, inputs: Any, labels: Any,
    **settings: Any,
) -> ExportedFile:  # fmt: skip
    """Export a module as an int8 file; `settings` are arguments of `effxfer.deploy.int8.search.quantize`.

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
