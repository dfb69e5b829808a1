# ruff: noqa: F403, F405 (type checkers take from the api what `__all__` lists)
"""Adapt a pretrained network to your task, compress it, and export a verified ONNX model.

`effxfer.api` describes the functions. Importing this package loads neither them nor torch.
"""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from effxfer.api import *
    from effxfer.runtime.model import Model

__version__ = "0.1.0"
# A list of its own, because nothing here may import the api; `tests/contracts/test_api.py` compares the two.
__all__ = [
    "Model",
    "apply_adapter",
    "bench",
    "check",
    "check_cpus",
    "clip",
    "compact",
    "compete",
    "continual",
    "doctor",
    "embed_classes",
    "export",
    "find_ticket",
    "finetune",
    "leaderboard",
    "learning_curve",
    "list_models",
    "load",
    "load_adapter",
    "load_data",
    "load_ticket",
    "pack_ticket",
    "pretrain",
    "preview",
    "prune_channels",
    "prune_to_latency",
    "prune_vocabulary",
    "qat",
    "quantize",
    "rank",
    "reconstruct",
    "run",
    "search_head",
    "shrink",
    "status",
    "train_ticket",
    "transfer_report",
    "trust",
]
# Read when ONNX Runtime is imported, here and in every process that inherits it; its own switch comes after it has
# written a device's identity to disk.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

if not TYPE_CHECKING:  # for a type checker a name that is not listed is a mistake

    def __getattr__(name: str) -> Any:
        """Import a function, or the class `Model`, when it is first used."""
        if name not in __all__:
            raise AttributeError(f"module 'effxfer' has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module("effxfer.runtime.model" if name == "Model" else "effxfer.api"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
