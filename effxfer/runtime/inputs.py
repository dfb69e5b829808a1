"""How an example becomes the network's one input tensor: images, texts or vectors.

Data, training, gates, export, latency and the device ask the same object, which travels in every artifact and in every
exported file.

Shape legend: B examples.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

from numpy.typing import NDArray

from effxfer.runtime.images.preprocess import Preprocess
from effxfer.runtime.model_file import strict
from effxfer.runtime.reading import read_regular
from effxfer.runtime.text.errors import TextError
from effxfer.runtime.text.tokenizer_file import LARGEST_FILE
from effxfer.runtime.text.tokens import TOKENIZER, Tokens
from effxfer.runtime.vectors.vectors import Vectors


class Input(Protocol):
    """The modality of a network's input, and its settings.

    Attributes:
        kind: Name of the modality, as in `INPUTS`.
        name: Name of the ONNX input.
        unit: What a number of examples counts, such as `images`.
        free: Names of the axes of the ONNX input whose length is free.
    """

    kind: ClassVar[str]
    name: ClassVar[str]
    unit: ClassVar[str]
    free: ClassVar[Mapping[int, str]]

    @property
    def size(self) -> int:
        """Extent of one example: the side of an image in pixels, the most tokens of a text, the width of a vector."""

    def with_size(self, size: int) -> Self:
        """Return the same input at another size."""

    def feed(self, rows: Any) -> NDArray[Any]:
        """Turn decoded examples into the input tensor `(B, ...)`."""

    def example(self, batch: int = 2, seed: int | None = None) -> NDArray[Any]:
        """Return an input tensor `(batch, ...)` to trace a network with; `seed` draws its values."""

    def real(self, x: Any) -> Any:
        """Tell which positions of an input tensor `(B, n)` are no padding, bool `(B, n)`; None where all are."""

    def files(self) -> Mapping[str, bytes]:
        """Return the contents of the files that lie beside the model, by name."""

    def decode_key(self) -> Mapping[str, Any]:
        """Return the settings that decoded examples depend on, as JSON values."""

    def to_json(self) -> dict[str, Any]:
        """Convert into plain values."""


INPUTS: dict[str, type[Preprocess | Tokens | Vectors]] = {"image": Preprocess, "text": Tokens, "vector": Vectors}
SIZE_UNITS = {"image": "px", "text": "tokens", "vector": "numbers"}  # of `Input.size`
INPUT_FILES = {TOKENIZER: LARGEST_FILE}  # most bytes of each
NO_FILES: Mapping[str, bytes] = {}


def input_from_json(raw: Mapping[str, Any], files: Mapping[str, bytes] = NO_FILES) -> Input:
    """Read the values of `to_json`; without `kind` they are an image's, which has no such field.

    Args:
        raw: The values.
        files: Contents of the files that lie beside, by name; those of `Input.files` are used.

    Raises:
        ValueError: If the kind is unknown (an `UnknownKindError`), or a field is unknown, missing or out of its range.
        TextError: `E441` without the tokenizer, `E446` if it is that of another model.
    """
    kind = raw.get("kind", "image") if isinstance(raw, Mapping) else "image"
    if not isinstance(kind, str) or kind not in INPUTS:
        raise strict.UnknownKindError(f"an input of kind {kind!r:.60}, none of {', '.join(INPUTS)}")
    if kind == "image":
        return Preprocess.from_json({k: v for k, v in raw.items() if k != "kind"} if isinstance(raw, Mapping) else raw)
    if kind == "vector":
        return Vectors.from_json(raw)
    if TOKENIZER not in files:
        raise TextError(f"there is no {TOKENIZER} beside it", f"put the {TOKENIZER} of the model there", code="E441")
    return Tokens.from_json(raw, files[TOKENIZER])


def read_input_files(folder: Path) -> dict[str, bytes]:
    """Read the files of inputs that lie in a model's folder; those that are absent are left out.

    Raises:
        TextError: `E441` if one is no regular file, too large, or cannot be read.
    """
    contents = {}
    for name, limit in INPUT_FILES.items():
        try:
            contents[name] = read_regular(folder / name, limit)
        except FileNotFoundError:
            continue
        except OSError as error:
            text = f"{folder / name} cannot be read: {error.strerror}"
            raise TextError(text, f"put the {name} of the model there", code="E441") from None
    return contents
