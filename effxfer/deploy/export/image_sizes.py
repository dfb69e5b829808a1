"""Images of other sizes than the network's own: whether it takes them, and whether its file answers alike."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from effxfer.deploy.export.logits import distance, open_model, torch_logits
from effxfer.errors import ModelFileError
from effxfer.report import Measurement, Report
from effxfer.runtime.inputs import Input
from effxfer.runtime.session import ONNXRUNTIME

SIZE_IMAGES = 8  # chosen: the second size is about shapes, which one image shows as well


def second_size(module: nn.Module, input: Input) -> tuple[int, int]:
    """Return a height and width other than the network's own, after a trial run.

    Raises:
        ModelFileError: If the network takes images of its own size only, with torch's reason, or pads by their size.
    """
    # Multiples of the usual stride; of two lengths, so that swapped axes show.
    height, width = input.size + 32, input.size + 64
    padding = [name for name, layer in module.named_modules() if type(layer).__name__.endswith("Same")]
    if padding:  # the exporter's symbols grow with each of them: it did not finish MobileNetV2 within 5 minutes
        problem = f"{padding[0]} and {len(padding) - 1} more layers pad by the size of what they get (timm's `same`)"
        raise ModelFileError(f"{problem}: that cannot be exported", "leave out dynamic_size", code="E426")
    problem, cause = f"the network does not take images of {height} x {width}", None
    try:
        answers = len(torch_logits(module, np.zeros((1, height, width, 3), np.uint8), input))
        reason = "" if answers == 1 else f"it gives {answers} answers for one"
    except Exception as error:  # a network says it in its own way: AssertionError, RuntimeError ...
        cause, reason = error, (str(error).strip() or type(error).__name__).splitlines()[0]
    if reason:
        raise ModelFileError(f"{problem}: {reason}", "leave out dynamic_size", code="E426") from cause
    return height, width


def compare_sizes(
    file: Path,
    module: nn.Module,
    pixels: NDArray[np.uint8],
    input: Input,
    sizes: Sequence[tuple[int, int]],
    threads: int,
    runtime: str = ONNXRUNTIME,
) -> Report:
    """Compare a file, in a runtime, with its network on images `(N, S, S, 3)` of other sizes.

    Returns:
        `parity/sizeHxW`: largest absolute difference of a logit.

    Raises:
        ModelFileError: If the file does not take a size that the network takes.
    """
    from PIL import Image

    rows, model = [], open_model(file, threads, runtime=runtime)
    for height, width in sizes:
        images = np.stack([np.asarray(Image.fromarray(image).resize((width, height))) for image in pixels])
        expected = torch_logits(module, images, input)
        try:
            got = model.logits(images)
        except Exception as error:  # runtimes raise their own types
            problem = f"{file.name} does not take images of {height} x {width}, which the network takes"
            raise ModelFileError(problem, "leave out dynamic_size", code="E426") from error
        name = f"parity/size{height}x{width}"
        rows.append(Measurement(name=name, value=distance(expected, got), n=len(images)))
    return Report(rows=tuple(rows))
