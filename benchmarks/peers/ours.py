"""The same task by effxfer: `finetune`, `shrink` and `export`, with the settings that a user gets."""

from pathlib import Path
from typing import Any

import effxfer as ex
from benchmarks.peers.case import Case


def tune(case: Case) -> Any:
    """Fine-tune for as many epochs as everybody."""
    return ex.finetune(
        case.source, data=case.data, out=case.folder / "effxfer/dense", epochs=case.epochs, batch=32, seed=case.seed
    )


def shrink(dense: Any, case: Case, seconds: float, backbones: list[Any]) -> Any:
    """Let everything that meets the latency compete, within the time that the slowest peer took to prune."""
    return ex.shrink(
        dense, data=case.data, out=case.folder / "effxfer/small", latency_ratio=case.latency_ratio, seconds=seconds,
        backbones=backbones or None, seed=case.seed,
    )  # fmt: skip


def files(net: Any, case: Case, name: str) -> dict[str, Path]:
    """Export, and return the files by their precision."""
    exported = ex.export(net, data=case.data, out=case.folder / f"effxfer/{name}-onnx", seed=case.seed)
    return {precision: Path(file) for precision, file in exported.models.items()}
