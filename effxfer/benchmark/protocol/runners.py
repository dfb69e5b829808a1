"""Runners for `compare`: ONNX Runtime sessions and eager torch modules, opened anew for every block."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from effxfer.errors import ModelFileError, error_of_code
from effxfer.runtime import session as sessions
from effxfer.runtime.inputs import INPUTS
from effxfer.runtime.model_file.metadata import Metadata, ModelError, has_contract
from effxfer.runtime.text.errors import TextError
from effxfer.runtime.text.tokens import Tokens

TOKENIZER_CODES = ("E441", "E446")
DEFAULT_SIDE = 224  # ImageNet's

if TYPE_CHECKING:
    import torch

    from effxfer.benchmark.protocol.latency import Factory


def open_session(file: Path, threads: int) -> Any:
    """Open an ONNX Runtime session on the CPU, one operator at a time.

    Args:
        file: The model.
        threads: Threads within an operator, at least 1.

    Raises:
        ModelFileError: If the file is absent or ONNX Runtime refuses it.
    """
    if not file.is_file():
        raise ModelFileError(f"no model file {file}", "write one with `effxfer export`", code="E424")
    try:
        return sessions.open_session(file, sessions.session_options(threads=threads, inter_op_num_threads=1))
    except Exception as error:  # ONNX Runtime raises its own types, ValueError and RuntimeError
        raise ModelFileError(f"ONNX Runtime refuses {file}: {sessions.error_summary(error)}", code="E424") from error


def onnx_runner(file: Path, feed: Mapping[str, NDArray[Any]], threads: int = 1) -> "Factory":
    """Return a factory that opens a session and runs it on `feed`.

    Args:
        file: The model.
        feed: Input arrays by name, see `feed_for`.
        threads: Threads within an operator.
    """

    def open_model() -> Callable[[], object]:
        session, values = open_session(file, threads), dict(feed)
        return lambda: session.run(None, values)

    return open_model


class _TorchCall:
    """An eager module on one input; sets torch's thread count until it is closed."""

    def __init__(self, module: "torch.nn.Module", example: "torch.Tensor", threads: int) -> None:
        import torch

        self._before, self._mode = torch.get_num_threads(), torch.inference_mode
        # For all of torch, so it is restored at the end of the block.
        torch.set_num_threads(threads)
        self._module, self._example = module.eval(), example

    def __call__(self) -> object:
        with self._mode():
            return self._module(self._example)

    def close(self) -> None:
        """Restore torch's thread count."""
        import torch

        torch.set_num_threads(self._before)


def torch_runner(
    module_factory: "Callable[[], torch.nn.Module]", example: "torch.Tensor | NDArray[Any]", threads: int = 1
) -> "Factory":
    """Return a factory that runs a module eagerly, in inference mode, on the CPU.

    Args:
        module_factory: Builds the module; called once per block, so building and loading count as `load_ms`.
        example: The input, batch first.
        threads: Torch's threads while the block runs; restored afterwards.
    """

    def open_model() -> Callable[[], object]:
        import torch

        tensor = torch.from_numpy(example) if isinstance(example, np.ndarray) else example
        return _TorchCall(module_factory(), tensor, threads)

    return open_model


def feed_for(file: Path, *, batch: int = 1, size: int | None = None, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Draw random inputs for a model file.

    Args:
        file: The model.
        batch: Value of a free first axis; a fixed one overrides it, see `batch_of`.
        size: Value of any other free axis (height and width, or the length of a text); None for the side in the
            file's preprocessing metadata, else 224; for texts the median length that the file states, else 16.
        seed: Seed of the values: normal for floats, 0 to 255 for bytes, 0 and 1 for other integers; tokens of the
            file's own tokenizer for texts.

    Raises:
        ModelFileError: If the file cannot be opened, its tokenizer is absent (`E441`) or that of another model
            (`E446`), or an input is not a tensor of numbers.
    """
    rng, session, feed = np.random.default_rng(seed), open_session(file, 1), {}
    properties = session.get_modelmeta().custom_metadata_map
    text = text_metadata(file, properties)
    if text is not None:
        return {text.input.name: _draw_ids(text, batch, size, seed)}
    free = size or Metadata.stated_size(properties) or DEFAULT_SIDE
    for tensor in session.get_inputs():
        fixed = [
            n if isinstance(n, int) and n > 0 else (free if axis else batch) for axis, n in enumerate(tensor.shape)
        ]
        feed[tensor.name] = _values(tensor.type, fixed, rng)
    return feed


def text_metadata(file: Path, properties: Mapping[str, str]) -> Metadata | None:
    """Read the metadata of a file that effxfer wrote for texts; None for other files.

    Args:
        file: The model; its tokenizer lies beside it.
        properties: Its `metadata_props`.

    Raises:
        ModelFileError: If the tokenizer is absent (`E441`), or that of another model (`E446`).
    """
    try:
        metadata = Metadata.from_properties(properties, str(file), file.parent) if has_contract(properties) else None
    except ModelError as error:
        if error.code in TOKENIZER_CODES:
            raise ModelFileError(error.problem, error.hint, code=error.code) from None
        return None
    return metadata if metadata and metadata.input.kind == "text" else None


def _draw_ids(metadata: Metadata, batch: int, length: int | None, seed: int) -> NDArray[np.int64]:
    tokens = metadata.input
    if not isinstance(tokens, Tokens):
        raise TypeError(f"{tokens.unit}, not texts")
    try:
        return tokens.example(batch, seed, length or next(iter(metadata.lengths), None))
    except TextError as error:
        raise error_of_code(error.problem, error.hint, error.code) from None


def batch_of(feed: Mapping[str, NDArray[Any]]) -> int:
    """Return the images per call of `feed`: the first side of its first array that is no scalar."""
    return next((value.shape[0] for value in feed.values() if value.ndim), 1)


def unit_of(feed: Mapping[str, NDArray[Any]]) -> str:
    """Return the noun for the examples of `feed`."""
    return next((each.unit for each in INPUTS.values() if each.name in feed), "images")


def torch_input(feed: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """Convert an ONNX feed to the torch module's input: its first array, images as float32 and channels first."""
    value = next(iter(feed.values()))
    if value.dtype == np.int64:
        return value
    if value.dtype == np.uint8 and value.ndim == 4 and value.shape[-1] == 3:
        value = value.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(value, dtype=np.float32)


def _values(kind: str, shape: list[int], rng: np.random.Generator) -> NDArray[Any]:
    match kind:
        case "tensor(float)" | "tensor(float16)" | "tensor(double)":
            dtype = {"tensor(float)": "f4", "tensor(float16)": "f2", "tensor(double)": "f8"}[kind]
            # Not zeros, on which activations take one branch only.
            return rng.standard_normal(shape).astype(dtype)
        case "tensor(uint8)":
            return rng.integers(0, 256, shape, dtype=np.uint8)
        case "tensor(int8)" | "tensor(int32)" | "tensor(int64)":
            return rng.integers(0, 2, shape).astype(kind.removeprefix("tensor(").rstrip(")"))
        case "tensor(bool)":
            return np.ones(shape, dtype=bool)
    raise ModelFileError(
        f"an input of type {kind} is not supported", "export the model with inputs of float, integer or bool"
    )
