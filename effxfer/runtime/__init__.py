"""Run an exported model with onnxruntime, numpy and pillow; imports nothing else of this package, and no torch."""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from effxfer.runtime.model import Model

__all__ = ["Model"]
# Read when ONNX Runtime is imported; here too, because bundles hold a copy of this folder without the rest.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

if not TYPE_CHECKING:  # for a type checker a name that is not listed is a mistake

    def __getattr__(name: str) -> Any:
        """Import the class `Model` when it is first used."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f"{__name__}.model"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
