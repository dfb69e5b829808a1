"""Run exported files in ONNX Runtime or OpenVINO, and networks in torch, on the same decoded examples."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from effxfer.errors import ModelFileError
from effxfer.runtime import session
from effxfer.runtime.inputs import Input
from effxfer.runtime.model import BATCH, Model, ModelError
from effxfer.runtime.openvino.openvino_session import OpenVinoSession
from effxfer.runtime.rows import Ragged, Rows, map_batches
from effxfer.runtime.session import ONNXRUNTIME, OPENVINO, session_options

# ONNX Runtime then takes kernels of unsigned weights, whose sums do not saturate without VNNI.
EXACT = {"session.x64quantprecision": "1"}


def open_model(file: Path, threads: int = 0, *, exact: bool = False, runtime: str = ONNXRUNTIME) -> Model:
    """Open an exported file with `effxfer.runtime.Model`.

    Args:
        file: The model.
        threads: Threads of the runtime; 0 is one per core.
        exact: Whether x86 without VNNI adds 8-bit products without loss, like all other CPUs; slower. In ONNX
            Runtime only.
        runtime: See `Model`.

    Raises:
        ModelFileError: If `Model` refuses it.
    """
    options = session_options(entries=EXACT) if exact else None
    try:
        return Model(file, threads=threads, options=options, runtime=runtime)
    except ModelError as error:
        raise ModelFileError(error.problem, error.hint, code=error.code) from None


def onnx_outputs(
    file: Path, inputs: NDArray[Any], *, batch: int = BATCH, threads: int = 0, exact: bool = False,
    runtime: str = ONNXRUNTIME,
) -> NDArray[Any]:  # fmt: skip
    """Run any ONNX file on arrays for its first input.

    Args:
        file: The model, whoever wrote it.
        inputs: `(N, ...)` of the type and shape that the file takes, N at least 1.
        batch: Rows per call.
        threads: Threads of the runtime; 0 is one per core.
        exact: See `open_model`.
        runtime: See `Model`.

    Returns:
        The first output, `(N, ...)`.

    Raises:
        ModelFileError: If the runtime refuses the file (E424) or cannot run it on such arrays (E427).
    """
    opened = _open_any(file, threads, exact, runtime)
    name, starts = opened.get_inputs()[0].name, range(0, len(inputs), batch)
    try:
        return np.concatenate([opened.run(None, {name: inputs[i : i + batch]})[0] for i in starts])
    except Exception as error:  # runtimes raise their own types, ValueError and RuntimeError
        text = f"{file.name} cannot run on {inputs.dtype} {inputs.shape}: {session.error_summary(error)}"
        raise ModelFileError(text, "pass arrays of the type and shape that the file takes", code="E427") from error


def _open_any(file: Path, threads: int, exact: bool, runtime: str) -> Any:
    """Open a file that anybody wrote."""
    try:
        if runtime == OPENVINO:
            return OpenVinoSession(file, file.read_bytes(), threads)
        return session.open_session(file, session_options(threads=threads, entries=EXACT if exact else {}))
    except ModelError as error:
        raise ModelFileError(error.problem, error.hint, code=error.code) from None
    except Exception as error:  # ONNX Runtime raises its own types
        raise ModelFileError(f"ONNX Runtime refuses {file}: {session.error_summary(error)}", code="E424") from error


def onnx_logits(
    file: Path, rows: Rows, *, batch: int = BATCH, threads: int = 0, exact: bool = False, runtime: str = ONNXRUNTIME
) -> NDArray[np.float32]:
    """Run an exported file over examples.

    Args:
        file: The model.
        rows: uint8 `(N, S, S, 3)`, `Ragged` ids, or vectors `(N, D)` for a file of vectors, which the file's own input
            makes its feed; other arrays are the feed itself, `(N, ...)`, of a file that anybody wrote.
        batch: Examples per call; texts of like length are run together.
        threads: Threads of the runtime; 0 is one per core.
        exact: See `open_model`.
        runtime: See `Model`.

    Returns:
        float32 `(N, C)`.
    """
    if not is_decoded(rows, file):
        return onnx_outputs(file, np.asarray(rows), batch=batch, threads=threads, exact=exact, runtime=runtime)
    try:
        return open_model(file, threads, exact=exact, runtime=runtime).logits(rows, batch=batch)
    except ModelError as error:
        raise ModelFileError(error.problem, error.hint, code=error.code) from None


def is_decoded(rows: Any, file: Path) -> bool:
    """Whether rows are decoded examples, which a file's own input makes its feed, and not the feed itself."""
    if isinstance(rows, Ragged) or rows.dtype == np.uint8:
        return True
    # Vectors and the feed of a file that anybody wrote look alike: the file tells them apart.
    return rows.dtype == np.float32 and rows.ndim == 2 and _takes_vectors(file)


def _takes_vectors(file: Path) -> bool:
    try:
        return Model(file, threads=1).input.kind == "vector"
    except ModelError:  # a file that effxfer did not write
        return False


def torch_logits(module: nn.Module, rows: Rows, input: Input, *, batch: int = BATCH) -> NDArray[np.float32]:
    """Run a module in evaluation mode over decoded examples; return float32 `(N, C)`.

    Args:
        module: On any device.
        rows: uint8 `(N, S, S, 3)`, `Ragged` ids or vectors `(N, D)`; N at least 1.
        input: Makes its input of them.
        batch: Examples per call; texts of like length are run together.
    """
    device = next((p.device for p in module.parameters()), torch.device("cpu"))

    @torch.inference_mode()
    def run(chunk: Any) -> NDArray[np.float32]:
        outputs: NDArray[np.float32] = module(torch.from_numpy(input.feed(chunk)).to(device)).float().cpu().numpy()
        return outputs

    return map_batches(rows, batch, run, 0)


def distance(expected: NDArray[np.float32], got: NDArray[np.float32]) -> float:
    """Return the largest absolute difference; NaN if either side has NaN."""
    return float(np.abs(expected - got).max())
