"""The mistakes that a person should look at: decisions that compression changed, and the most confident errors.

Shape legend: N examples, C classes, S side of images.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from effxfer.runtime.outputs.single_label import SingleLabel
from effxfer.runtime.softmax import softmax

# Chosen: three rows of eight pictures, each large enough to recognise; the sheet has about 60 kB.
EACH = 12
SIDE, ACROSS, BORDER = 96, 8, 4
QUALITY = 85  # of JPEG


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A wrong decision.

    Attributes:
        row: The example.
        label: Its class.
        predicted: The class that it was taken for.
        confidence: Probability of that class, in percent.
        flipped: Whether the other file, which was compared with, is right.
    """

    row: int
    label: int
    predicted: int
    confidence: float
    flipped: bool


def find_mistakes(
    output: SingleLabel, labels: NDArray[np.int64], raw: NDArray[np.float32], before: NDArray[np.float32]
) -> list[Mistake]:  # fmt: skip
    """Return the examples that only `before` has right, then the other mistakes, each by falling confidence.

    Args:
        output: The kind of the labels.
        labels: int64 `(N,)`.
        raw: Logits `(N, C)` of the file to ship.
        before: Logits `(N, C)` of the file that it was made from; of a file by itself, its own.

    Returns:
        At most `EACH` of both kinds.
    """
    predicted, wrong = output.decide(raw), ~output.correct(raw, labels)
    # A file that gave NaN is certain of nothing.
    confidence = np.nan_to_num(softmax(raw).max(1))
    flipped = wrong & output.correct(before, labels)
    chosen = [
        row
        for kind in (flipped, wrong & ~flipped)
        for row in sorted(np.flatnonzero(kind), key=lambda i: -confidence[i])[:EACH]
    ]
    return [
        Mistake(
            row=int(row), label=int(labels[row]), predicted=int(predicted[row]),
            confidence=100 * float(confidence[row]), flipped=bool(flipped[row]),
        )
        for row in chosen
    ]  # fmt: skip


def contact_sheet(images: Sequence[NDArray[np.uint8]]) -> bytes:
    """Draw images side by side, each with its number from 1; return a JPEG file.

    Args:
        images: RGB `(S, S, 3)` each, at least one.
    """
    from PIL import Image, ImageDraw

    step, rows = SIDE + BORDER, -(-len(images) // ACROSS)
    sheet = Image.new("RGB", (min(len(images), ACROSS) * step + BORDER, rows * step + BORDER), "white")
    draw = ImageDraw.Draw(sheet)
    for number, pixels in enumerate(images):
        x, y = BORDER + number % ACROSS * step, BORDER + number // ACROSS * step
        sheet.paste(Image.fromarray(np.asarray(pixels)).resize((SIDE, SIDE), Image.Resampling.LANCZOS), (x, y))
        draw.rectangle((x, y, x + 15, y + 11), fill="white")
        draw.text((x + 2, y), str(number + 1), fill="black")
    stream = io.BytesIO()
    sheet.save(stream, "JPEG", quality=QUALITY)
    return stream.getvalue()
