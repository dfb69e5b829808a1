"""Classify images with an exported model.

>>> model = Model("runs/mine/export/model.onnx")  # doctest: +SKIP
>>> model.predict(["photo.jpg"])[0]  # doctest: +SKIP
Prediction(label='cat', probability=0.98, top=(('cat', 0.98),))
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from effxfer.runtime.image import ImageError, Preprocess, decode, normalize, passable, resize_crop
from effxfer.runtime.metadata import Metadata, ModelError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Model", "ModelError", "Prediction", "Source", "predict_files"]

Source = str | Path | bytes | NDArray[np.uint8]
CPU = ("CPUExecutionProvider",)


@dataclass(frozen=True)
class Prediction:
    """What a model says about one image.

    Attributes:
        label: The most probable class.
        probability: Its softmax probability, in [0, 1].
        top: The most probable classes with their probabilities, best first.
    """

    label: str
    probability: float
    top: tuple[tuple[str, float], ...]


class Model:
    """An exported model, its labels and its preprocessing.

    Args:
        path: The `.onnx` file.
        threads: Within an operator; 0 is one per physical core.
        providers: ONNX Runtime execution providers, the preferred one first.
        options: ONNX Runtime session options to start from; None is ONNX Runtime's own.

    Raises:
        ModelError: If the file is absent, damaged, refused by ONNX Runtime, or not written by effxfer.
    """

    def __init__(
        self, path: str | Path, *, threads: int = 0, providers: Sequence[str] = CPU, options: Any = None
    ) -> None:
        self.path = Path(path)
        self._session = _open(self.path, threads, providers, options)
        self.metadata = Metadata.from_properties(
            self._session.get_modelmeta().custom_metadata_map, f"the model {self.path}"
        )
        self._input = self._session.get_inputs()[0]
        self._output = _output_for(self._session, self.metadata.labels, self.path)
        _check_input(self._input, self.metadata, self.path)

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names, in the order of the outputs."""
        return self.metadata.labels

    @property
    def preprocess(self) -> Preprocess:
        """How an image becomes the input."""
        return self.metadata.preprocess

    @property
    def with_preprocessing(self) -> bool:
        """The graph takes decoded images, uint8 `(N, H, W, 3)`, and gives probabilities instead of logits."""
        return self.metadata.with_preprocessing

    @property
    def input_name(self) -> str:
        """Name of the input: `images`, float32 `(N, 3, S, S)`, or with preprocessing `pixels`, uint8 `(N, H, W, 3)`."""
        return str(self._input.name)

    def pixels(self, source: Source) -> NDArray[np.uint8]:
        """Decode, resize and crop one image.

        Args:
            source: A path, an image file's bytes, or a decoded image: uint8 `(H, W, 3)`, or `(H, W)` for grey.

        Returns:
            uint8 `(S, S, 3)`.

        Raises:
            ImageError: If it is not an image, damaged, too large, or an array of another shape or type.
        """
        return resize_crop(_image(source), self.preprocess)

    def logits(self, pixels: NDArray[np.uint8], *, batch: int = 32) -> NDArray[np.float32]:
        """Run the network.

        Args:
            pixels: uint8 `(N, S, S, 3)`, as `pixels` and the library's data sets give them; N may be 0.
            batch: Images per call.

        Returns:
            float32 `(N, classes)`.

        Raises:
            ModelError: If the graph gives probabilities (`E428`).
        """
        if self.with_preprocessing:
            raise ModelError(f"{self.path} gives probabilities, no logits", "use probabilities or predict", code="E428")
        chunks = [pixels[start : start + batch] for start in range(0, len(pixels), batch)]
        if not chunks:
            return np.empty((0, len(self.labels)), np.float32)
        return np.concatenate([self._run(chunk) for chunk in chunks])

    def probabilities(self, sources: Sequence[Source]) -> NDArray[np.float32]:
        """Classify images in one call, or one by one if the graph resizes them.

        Args:
            sources: As in `pixels`; at least one.

        Returns:
            float32 `(N, classes)`, each row with sum 1.

        Raises:
            ImageError: If one of them is not a usable image.
        """
        if self.with_preprocessing:
            return np.concatenate([self._feed(passable(_image(s), self.preprocess)[None]) for s in sources])
        return softmax(self._run(np.stack([self.pixels(s) for s in sources])))

    def predict(self, sources: Iterable[Source], *, top: int = 1, batch: int = 32) -> list[Prediction]:
        """Classify images.

        Args:
            sources: As in `pixels`; decoded one batch at a time.
            top: Classes per prediction, at least 1; more than there are gives all.
            batch: Images per call; always 1 if the graph resizes them.

        Returns:
            One prediction per source, in their order.

        Raises:
            ImageError: At the first source that is not a usable image.
        """
        predictions, iterator = [], iter(sources)
        while chunk := list(islice(iterator, batch)):
            predictions += [self._rank(row, top) for row in self.probabilities(chunk)]
        return predictions

    def _run(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self._feed(normalize(pixels, self.preprocess))

    def _feed(self, feed: NDArray[Any]) -> NDArray[np.float32]:
        result: NDArray[np.float32] = self._session.run([self._output], {self.input_name: feed})[0]
        return result

    def _rank(self, probabilities: NDArray[np.float32], top: int) -> Prediction:
        order = np.argsort(-probabilities, kind="stable")[: max(top, 1)]
        ranked = tuple((self.labels[i], float(probabilities[i])) for i in order)
        return Prediction(*ranked[0], ranked)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn logits `(N, C)` into probabilities that sum to 1 per row."""
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: NDArray[np.float32] = raised / raised.sum(axis=1, keepdims=True)
    return shares


def predict_files(
    file: str | Path, images: Sequence[str | Path], *, top: int = 1, threads: int = 0
) -> list[dict[str, Any]]:
    """Classify image files; give plain values, one row per file.

    Args:
        file: The `.onnx` file.
        images: Image files.
        top: Classes per image.
        threads: As in `Model`.

    Returns:
        Rows of `file`, `label`, `probability` and `top`, a list of `label` and `probability`.

    Raises:
        ModelError: As `Model`.
        ImageError: At the first file that is not a usable image, naming it.
    """
    predictions = Model(file, threads=threads).predict(_named(images), top=top)
    return [row_of(name, found) for name, found in zip(images, predictions, strict=True)]


def row_of(name: str | Path, found: Prediction) -> dict[str, Any]:
    """Give a prediction as plain values."""
    ranked = [{"label": label, "probability": round(share, 6)} for label, share in found.top]
    return {"file": str(name), **ranked[0], "top": ranked}


def _named(images: Iterable[str | Path]) -> Iterator[NDArray[np.uint8]]:
    for name in images:
        try:
            yield np.asarray(decode(Path(name)))
        except ImageError as error:
            raise ImageError(f"{name}: {error.problem}", error.hint, code=error.code) from None


def _image(source: Source) -> "Image.Image":
    if isinstance(source, bytes | str | Path):
        return decode(Path(source) if isinstance(source, str) else source)
    from PIL import Image

    array = np.asarray(source)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        problem = f"an array of {array.dtype} {array.shape} is not an image"
        raise ImageError(problem, "give uint8 (H, W, 3), or (H, W) for grey", code="E301")
    return Image.fromarray(array).convert("RGB")


def _open(path: Path, threads: int, providers: Sequence[str], options: Any) -> Any:
    import onnxruntime

    if not path.is_file():
        raise ModelError(f"no model file {path}", "write one with `effxfer export`", code="E424")
    options = options or onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or options.intra_op_num_threads
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(path, options, providers=list(providers))
    except Exception as error:  # ONNX Runtime raises its own types, ValueError and RuntimeError
        cause = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"ONNX Runtime refuses {path}: {cause}", "export it again", code="E424") from None


def _output_for(session: Any, labels: Sequence[str], path: Path) -> str:
    output = session.get_outputs()[0]
    if len(output.shape) != 2 or output.shape[1] != len(labels):
        problem = f"{path} gives {output.shape}, its metadata names {len(labels)} labels"
        raise ModelError(problem, "export it again", code="E428")
    return str(output.name)


def _check_input(taken: Any, about: Metadata, path: Path) -> None:
    if (taken.type == "tensor(uint8)") != about.with_preprocessing:
        problem = f"{path} takes {taken.type}, which its metadata deny"
        raise ModelError(problem, "export it again", code="E428")
