"""Export any module with an example input to one ONNX file, and compare their outputs."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from effxfer import __version__
from effxfer.deploy.export.external_data import write_model
from effxfer.deploy.export.logits import onnx_outputs
from effxfer.deploy.export.onnx import BATCH, check_module, check_operators, convert, strip, write_metadata
from effxfer.deploy.export.opset import NATIVE, lower
from effxfer.deploy.export.parity import REJECTED, reject
from effxfer.deploy.settings import OPSET, TOLERANCE
from effxfer.errors import GateError, ModelFileError
from effxfer.report import Measurement, Report
from effxfer.runtime.inputs import Input
from effxfer.runtime.model_file.metadata import Metadata
from effxfer.runtime.outputs.single_label import SingleLabel

# 1 and 2 show a batch that was fixed, 7 one that something divides by.
BATCHES = (1, 2, 7)
SPREAD = 7  # rows of random input beside the example: at least as many as the largest batch that is compared


def export_module(
    module: nn.Module,
    file: Path,
    example: Tensor,
    *,
    classes: Sequence[str] = (),
    input: Input | None = None,
    names: tuple[str, str] = ("images", "logits"),
    opset: int = OPSET,
    tolerance: float = TOLERANCE,
    threads: int = 1,
) -> Report:
    """Write a module as one ONNX file, and compare the file with the module in ONNX Runtime.

    The batch axis is free. With `classes` and `input` the file opens in `effxfer.runtime.Model`, which takes
    images; without them any ONNX Runtime takes the input that the module takes.

    Args:
        module: Module in evaluation mode, on any device, from a tensor `(N, ...)` to a tensor `(N, ...)`; unchanged.
        file: File to write; replaced only by a complete file.
        example: Real input `(N, ...)`, N at least 1; the file is compared with the module on it, and on as much random
            input of its spread.
        classes: Names of the outputs' columns.
        input: How an image becomes the input; only for modules that take images `(N, 3, S, S)`.
        names: Names of the input and of the output.
        opset: ONNX operator set, 13 or later.
        tolerance: Largest difference of an output, as a share of the largest output (of 1, where all are smaller).
        threads: Threads of ONNX Runtime; 0 is one per core.

    Returns:
        `parity/batchB` and `parity/example`, the largest absolute differences of an output at batch size B and on the
        example, and `parity/scale`, the module's largest absolute output.

    Raises:
        ModelFileError: If the module is in training mode (E430), holds NaN or infinity (E407), or cannot be expressed
            in this operator set (E426, below 18 E431 with the operator).
        GateError: If the file answers something else (E601); it is renamed to `*.rejected`.
        ResourceError: If the disk is full; an older file is intact.
    """
    metadata = None
    if input is not None:
        output = SingleLabel(classes=tuple(classes))
        metadata = Metadata(input=input, output=output, key=_digest(module), version=__version__)
    write_module(module, file, example, metadata, names=names, opset=opset)
    return check_outputs(file, module, example, tolerance=tolerance, threads=threads)


def write_module(
    module: nn.Module, file: Path, example: Tensor, metadata: Metadata | None = None, *,
    names: tuple[str, str] = ("images", "logits"), opset: int = OPSET,
) -> Path:  # fmt: skip
    """Write a module as one ONNX file, unchecked; `effxfer.runtime.Model` opens one with metadata.

    The other arguments and the errors are those of `export_module`.
    """
    check_module(module)
    # Below 18 torch silently writes 18 and says it converted; what is older is made from that.
    native, free = max(opset, NATIVE), {names[0]: {0: BATCH}}
    model = convert(module, (_at_least_two(_move_to_device_of(example, module)),), native, free, outputs=names[1:])
    strip(model)
    check_operators(model, native, free)
    if opset < NATIVE:
        lower(model, opset)
    if metadata is not None:
        write_metadata(model, metadata)
    return write_model(model, file)


def check_outputs(
    file: Path, module: nn.Module, example: Tensor, *, tolerance: float = TOLERANCE, threads: int = 1
) -> Report:
    """Accept an ONNX file whose outputs match the module, or rename it; see `export_module` for the arguments."""
    inputs = torch.cat([example.detach().cpu(), _random_like(example.detach().cpu())])
    expected = _answers(module, inputs)
    rows, worst = [], 0.0
    try:
        for name, rows_of in [*((f"batch{b}", slice(-b, None)) for b in BATCHES), ("example", slice(len(example)))]:
            outputs = onnx_outputs(file, inputs[rows_of].numpy(), threads=threads)
            difference = _difference(expected[rows_of], outputs)
            rows.append(Measurement(name=f"parity/{name}", value=difference, n=len(outputs)))
            # NaN compares false with everything, and would pass as no difference.
            worst = max(worst, float(np.nan_to_num(difference, nan=np.inf)))
    except ModelFileError:
        reject(file)
        raise
    scale = float(np.abs(expected).max())
    # `not <=`, so that NaN fails.
    if not worst <= tolerance * max(1.0, scale):
        reject(file)
        hint = f"the file was renamed to {file.name}{REJECTED}; report the module, or raise tolerance if you know why"
        text = f"{file.name} differs from the module by {worst:.3g} (limit {tolerance * max(1.0, scale):.3g})"
        raise GateError(text, hint, code="E601")
    return Report(rows=(*rows, Measurement(name="parity/scale", value=scale, n=len(inputs))))


def _move_to_device_of(example: Tensor, module: nn.Module) -> Tensor:
    weight = next(module.parameters(), None)
    return example.detach() if weight is None else example.detach().to(weight.device)


def _at_least_two(example: Tensor) -> Tensor:
    """Repeat a single input: the exporter takes a batch of one for an axis of fixed size."""
    return example if len(example) > 1 else example.repeat(2, *[1] * (example.dim() - 1))


def _random_like(example: Tensor) -> Tensor:
    """Draw input of an example's mean and spread; integers are drawn from the example itself."""
    # A generator of its own: an export must not move the caller's random numbers.
    rng, shape = torch.Generator().manual_seed(0), (SPREAD, *example.shape[1:])
    if not example.is_floating_point():
        return example[torch.randint(len(example), (SPREAD,), generator=rng)]
    spread = float(example.std()) if example.numel() > 1 else 0.0
    return torch.randn(shape, generator=rng).to(example.dtype) * (spread or 1.0) + example.mean()


@torch.inference_mode()
def _answers(module: nn.Module, inputs: Tensor) -> NDArray[Any]:
    answers: NDArray[Any] = module(_move_to_device_of(inputs, module)).float().cpu().numpy()
    return answers


def _difference(expected: NDArray[Any], outputs: NDArray[Any]) -> float:
    if expected.shape != outputs.shape:
        return float("inf")
    return float(np.abs(expected - outputs).max())


def _digest(module: nn.Module) -> str:
    """Digest a module's weights: what the file can be traced back to."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
