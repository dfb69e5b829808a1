"""Open ONNX files in OpenVINO; no other module of effxfer does.

What it decides by itself is fixed here, so that a file answers and is timed alike on every call:

- threads: all cores, unless their number is given;
- their places: each thread is pinned to a core. Another process on that core then delays it, and several processes are
  pinned to the same ones: on two busy cores a ResNet-20 took 1.4 times as long (n=300 calls);
- precision: bfloat16 on CPUs that have it, and int8 activations beside weights alone in int8.

Importing `openvino` sends a message to Google Analytics and stores an id in the home directory. effxfer imports it
without the package that does so.
"""

import re
import sys
import threading
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effxfer.runtime.model_file.metadata import WEIGHTS, ModelError
from effxfer.runtime.model_file.wire import input_names, properties
from effxfer.runtime.threads import usable_cores

REPORTS_HOME = "openvino_telemetry"
# As ONNX Runtime names the types.
TYPES = {"f32": "float", "f16": "float16", "f64": "double", "u8": "uint8", "i8": "int8", "i32": "int32", "i64": "int64"}
SOURCE_PLACE = re.compile(r"(?:Exception from |failed at )?\S*src/\S+\.[ch]pp:\d+:?")
# Some lines of a terminal, as for ONNX Runtime.
LONGEST = 300


def is_installed() -> bool:
    """Whether the package `openvino` is installed."""
    return find_spec("openvino") is not None


def import_openvino() -> Any:
    """Import OpenVINO without its messages to Google Analytics.

    Raises:
        ModelError: If it is not installed (`E424`).
    """
    present = REPORTS_HOME in sys.modules
    if not present:
        # None makes the import fail, whereupon openvino takes a stub.
        sys.modules[REPORTS_HOME] = None  # type: ignore[assignment]
    try:
        import openvino
    except ImportError as error:
        hint = "pip install openvino, or run the file in ONNX Runtime"
        raise ModelError(f"OpenVINO is not installed: {error}", hint, code="E424") from None
    finally:
        if not present:
            del sys.modules[REPORTS_HOME]
    return openvino


def openvino_version() -> str:
    """Return the name and version of the installed OpenVINO, such as `OpenVINO 2026.4.1`."""
    return f"OpenVINO {str(import_openvino().__version__).partition('-')[0]}"


def compile_model(model: Path | bytes, threads: int = 0) -> Any:
    """Compile an ONNX file for the CPU, with float32 inference of all that is not quantized.

    Args:
        model: The file or its content; a file whose weights lie beside it must be given as a file.
        threads: Threads of one call; 0 for `usable_cores()`.

    Raises:
        Exception: If OpenVINO refuses the model; its errors have no common type.
    """
    core = import_openvino().Core()
    fixed = {
        "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads or usable_cores(), "ENABLE_CPU_PINNING": False,
        "INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
    }  # fmt: skip
    return core.compile_model(core.read_model(model), "CPU", fixed)


def error_summary(error: Exception) -> str:
    """Return an error's text in one line, without places in OpenVINO's source."""
    return " ".join(SOURCE_PLACE.sub("", str(error)).split())[:LONGEST] or type(error).__name__


class OpenVinoSession:
    """A compiled file with those methods of ONNX Runtime's session that `CheckedSession` calls.

    Args:
        path: The file.
        content: Its content.
        threads: See `compile_model`.

    Raises:
        ModelError: If OpenVINO is not installed or refuses the file, or the file has inputs with a default (`E424`).
    """

    def __init__(self, path: Path, content: bytes, threads: int) -> None:
        self._properties = properties(content)
        try:
            # By its path only where it must: a content was compared with its seal, a path may have changed since.
            self._compiled = compile_model(path if WEIGHTS in self._properties else content, threads)
        except ModelError:
            raise
        except Exception as error:  # OpenVINO raises RuntimeError and its own types
            problem = f"{openvino_version()} refuses {path}: {error_summary(error)}"
            raise ModelError(problem, "run it in ONNX Runtime, or export it again", code="E424") from None
        if defaults := set(input_names(content)) - {each.name for each in self.get_inputs()}:
            problem = f"{path} takes classes at run time ({', '.join(sorted(defaults))}), which OpenVINO does not"
            raise ModelError(problem, "run it in ONNX Runtime", code="E424")
        self._by_thread = threading.local()

    def get_modelmeta(self) -> SimpleNamespace:
        """Return the file's metadata entries as `custom_metadata_map`."""
        return SimpleNamespace(custom_metadata_map=self._properties)

    def get_inputs(self) -> list[SimpleNamespace]:
        """Return name, type and shape of each input."""
        return [_describe(port) for port in self._compiled.inputs]

    def get_outputs(self) -> list[SimpleNamespace]:
        """Return name, type and shape of each output."""
        return [_describe(port) for port in self._compiled.outputs]

    def get_overridable_initializers(self) -> list[SimpleNamespace]:
        """Return nothing: OpenVINO takes no inputs with a default."""
        return []

    def get_providers(self) -> list[str]:
        """Return the name of the runtime in the place of ONNX Runtime's providers."""
        return ["OpenVINO CPU"]

    def run(self, names: Sequence[str] | None, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run the graph; return new arrays of the named outputs, or of all of them in their order."""
        # A request belongs to one thread; ONNX Runtime's sessions may be shared, and so may this.
        if not hasattr(self._by_thread, "request"):
            self._by_thread.request = self._compiled.create_infer_request()
        results = self._by_thread.request.infer({name: np.ascontiguousarray(feed) for name, feed in feeds.items()})
        return [results[name] for name in names or [each.name for each in self.get_outputs()]]


def _describe(port: Any) -> SimpleNamespace:
    shape = [axis.get_length() if axis.is_static else None for axis in port.get_partial_shape()]
    kind = port.get_element_type().get_type_name()
    return SimpleNamespace(name=port.get_any_name(), type=f"tensor({TYPES.get(kind, kind)})", shape=shape)
