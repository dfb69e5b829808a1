"""Open ONNX Runtime sessions; no other module of the runtime does.

Builds since 1.32 send telemetry and store a device id on disk, unless `ORT_DISABLE_TELEMETRY` is set before
`onnxruntime` is imported. Importing effxfer sets it, and processes that effxfer starts inherit it.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from effxfer.runtime.threads import usable_cores

RUNTIMES = ONNXRUNTIME, OPENVINO = "onnxruntime", "openvino"
CPU = ("CPUExecutionProvider",)
# ONNX Runtime's numbers. Below 3 it prints warnings of its own making, such as of initializers that it removed.
ERRORS, FATAL = 3, 4
SOURCE_PLACE = re.compile(r"\S*/\S+\.(?:cc|h|cpp):\d+ (?:[\w:~&<> ]+\((?:[^()]|\([^()]*\))*\) (?:const )?)?")
# Chosen: some lines of a terminal.
LONGEST = 300
WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
NONE: Mapping[str, str] = MappingProxyType({})


def session_options(
    *, threads: int = 0, level: str = "", severity: int = ERRORS, entries: Mapping[str, str] = NONE, **fields: Any
) -> Any:
    """Build ONNX Runtime session options.

    Args:
        threads: Threads within an operator; 0 for `usable_cores()`.
        level: Graph optimization level, such as `ORT_ENABLE_EXTENDED`; empty for ONNX Runtime's default.
        severity: Lowest severity that is logged: `ERRORS`, or `FATAL` where the caller reports errors itself.
        entries: Session configuration entries by key.
        fields: Further attributes of `SessionOptions`.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads or usable_cores(), severity
    if level:
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    for name, value in fields.items():
        setattr(options, name, value)
    return options


def open_session(model: Path | bytes, options: Any = None, providers: Sequence[str] = CPU) -> Any:
    """Open a model.

    Args:
        model: A file or its content.
        options: From `session_options`; None for its defaults.
        providers: Execution providers in order of preference.

    Raises:
        Exception: If ONNX Runtime refuses the model; its errors have no common type.
    """
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # if onnxruntime was imported before effxfer, the variable had no effect
    return onnxruntime.InferenceSession(model, options or session_options(), providers=list(providers))


def error_summary(error: Exception) -> str:
    """Return an error's text in one line, without locations in ONNX Runtime's source.

    A long text keeps its end, where ONNX Runtime names the cause.
    """
    text = " ".join(SOURCE_PLACE.sub("", str(error)).split()) or type(error).__name__
    return text if len(text) <= LONGEST else f"... {text[-LONGEST:]}"


def ort_version() -> str:
    """Return the name and version of the installed ONNX Runtime."""
    import onnxruntime

    return f"ONNX Runtime {onnxruntime.__version__}"


def available_providers() -> list[str]:
    """List the execution providers of this ONNX Runtime."""
    import onnxruntime

    return list(onnxruntime.get_available_providers())
