"""The one place that opens ONNX Runtime's sessions.

Its builds since 1.32 report to their maker and keep a device's identity on disk, unless `ORT_DISABLE_TELEMETRY` is set
before they are imported. Importing effxfer sets it, so that processes that effxfer starts inherit it.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from effxfer.runtime.threads import usable_cores

CPU = ("CPUExecutionProvider",)
ERRORS, FATAL = 3, 4
SOURCE_PLACE = re.compile(r"\S*/\S+\.(?:cc|h|cpp):\d+ (?:[\w:~&<> ]+\((?:[^()]|\([^()]*\))*\) (?:const )?)?")
LONGEST = 300
FOLDER = "session.model_external_initializers_file_folder_path"
NONE: Mapping[str, str] = MappingProxyType({})


def session_options(
    *, threads: int = 0, level: str = "", severity: int = ERRORS, entries: Mapping[str, str] = NONE, **fields: Any
) -> Any:
    """Give ONNX Runtime's session options.

    Args:
        threads: Within an operator; 0 is as many as `usable_cores`.
        level: Of graph optimization, such as `ORT_ENABLE_EXTENDED`; empty for ONNX Runtime's own.
        severity: The least that it prints: `ERRORS`, or `FATAL` where errors are told by other means.
        entries: Session configuration entries by key.
        fields: Other attributes of `SessionOptions`.
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
    """Open a model; what ONNX Runtime raises where it refuses one has no common type.

    Args:
        model: A file or its content.
        options: From `session_options`; None is what that gives by default.
        providers: Execution providers, the preferred one first.
    """
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # for programs that imported it before effxfer: the variable came too late
    return onnxruntime.InferenceSession(model, options or session_options(), providers=list(providers))


def reason(error: Exception) -> str:
    """Give an error's text in one line, without the places in ONNX Runtime's source.

    Where it is long its end is kept: that is where ONNX Runtime says what was wrong.
    """
    text = " ".join(SOURCE_PLACE.sub("", str(error)).split()) or type(error).__name__
    return text if len(text) <= LONGEST else f"... {text[-LONGEST:]}"


def version() -> str:
    """Name the installed ONNX Runtime."""
    import onnxruntime

    return f"ONNX Runtime {onnxruntime.__version__}"


def known_providers() -> list[str]:
    """Name the execution providers that this ONNX Runtime has."""
    import onnxruntime

    return list(onnxruntime.get_available_providers())
