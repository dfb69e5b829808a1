"""Classify images with an exported model.

>>> model = Model("runs/mine/export/model.onnx")  # doctest: +SKIP
>>> model.predict(["photo.jpg"])[0]  # doctest: +SKIP
Prediction(label='cat', probability=0.98, top=(('cat', 0.98),))
"""

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effxfer.runtime.checked_session import CheckedSession
from effxfer.runtime.images.crop import graph_input, resize_crop
from effxfer.runtime.images.preprocess import Preprocess, normalize
from effxfer.runtime.images.source import Source, name_of, to_image
from effxfer.runtime.model_file.metadata import FEATURES, PROTOTYPES, ModelError
from effxfer.runtime.outputs.single_label import SingleLabel
from effxfer.runtime.session import CPU
from effxfer.runtime.softmax import softmax

__all__ = ["Model", "ModelError", "Prediction", "Source"]
# Chosen, not measured: 32 images of 224 px are 19 MB of float32; a CPU gains little from more.
BATCH = 32


@dataclass(frozen=True)
class Prediction:
    """Prediction of a model for one image.

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
        threads: Threads within an operator, at most one per logical core; 0 for one per physical core, within the
            container's CPU limit.
        providers: ONNX Runtime execution providers in order of preference; missing ones are skipped. The attribute
            `providers` lists those in use.
        options: ONNX Runtime session options to start from; None for the defaults of `session_options`.

    Raises:
        ModelError: If the file is absent, damaged, refused by ONNX Runtime, or not written by effxfer, or if none of
            the providers is available.
    """

    def __init__(
        self, path: str | Path, *, threads: int = 0, providers: Sequence[str] = CPU, options: Any = None
    ) -> None:
        self.path = Path(path)
        self._file = CheckedSession(self.path, threads=threads, providers=providers, options=options)
        self.sealed, self.metadata = self._file.sealed, self._file.metadata
        self._prototypes = dict[str, NDArray[Any]]()

    @property
    def providers(self) -> tuple[str, ...]:
        """Execution providers that run the file, in order of preference."""
        return tuple(self._file.session.get_providers())

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names, in the order of the outputs."""
        return self.metadata.labels

    @property
    def preprocess(self) -> Preprocess:
        """Conversion of an image into the input."""
        if not isinstance(self.metadata.input, Preprocess):
            raise ModelError(f"{self.path} takes {self.metadata.input.unit}, not images", code="E428")
        return self.metadata.input

    @property
    def with_preprocessing(self) -> bool:
        """Whether the graph takes decoded images, uint8 `(N, H, W, 3)`, and returns probabilities instead of logits."""
        return self.metadata.with_preprocessing

    @property
    def takes_prototypes(self) -> bool:
        """Whether classes can be set at run time, by `with_prototypes` or `runtime.support.learn`."""
        return self._file.takes_prototypes

    @property
    def input_name(self) -> str:
        """Name of the input: `images`, float32 `(N, 3, S, S)`, or with preprocessing `pixels`, uint8 `(N, H, W, 3)`."""
        return self._file.input_name

    def pixels(self, source: Source) -> NDArray[np.uint8]:
        """Decode, resize and crop one image.

        Args:
            source: A path, an image file's bytes, or a decoded image: uint8 `(H, W, 3)`, or `(H, W)` for grey.

        Returns:
            uint8 `(S, S, 3)`.

        Raises:
            ImageError: If it is not an image, damaged, too large, or an array of another shape or type.
        """
        return resize_crop(to_image(source), self.preprocess)

    def logits(self, pixels: NDArray[np.uint8], *, batch: int = BATCH) -> NDArray[np.float32]:
        """Run the network.

        Args:
            pixels: uint8 `(N, S, S, 3)`, from `pixels` or one of the library's data sets; N may be 0.
            batch: Images per call.

        Returns:
            float32 `(N, classes)`.

        Raises:
            ModelError: If the graph returns probabilities (`E428`).
        """
        if self.with_preprocessing:
            raise ModelError(
                f"{self.path} returns probabilities, not logits", "use probabilities or predict", code="E428"
            )
        chunks = [pixels[start : start + batch] for start in range(0, len(pixels), batch)]
        if not chunks:
            return np.empty((0, len(self.labels)), np.float32)
        return np.concatenate([self._run(chunk) for chunk in chunks])

    def features(self, sources: Sequence[Source]) -> NDArray[np.float32]:
        """Compute the features that classes are distinguished by, for a file that takes prototypes.

        Args:
            sources: Paths, image files' bytes or decoded images; at least one.

        Returns:
            float32 `(N, D)`; the mean of a class's rows is its prototype.

        Raises:
            ImageError: If one of them is not a usable image.
            ModelError: If the file takes no prototypes (`E428`).
        """
        self._need_prototypes()
        return np.concatenate([self.features_of(self.feed(source)[None]) for source in sources])

    def features_of(self, pixels: NDArray[np.uint8], *, batch: int = BATCH) -> NDArray[np.float32]:
        """Compute features, float32 `(N, D)`, of uint8 pixels in the file's input shape; N at least 1."""
        self._need_prototypes()
        chunks = [pixels[start : start + batch] for start in range(0, len(pixels), batch)]
        return np.concatenate([self._run(chunk, FEATURES) for chunk in chunks])

    def with_prototypes(self, prototypes: NDArray[np.float32], labels: Sequence[str]) -> "Model":
        """Return a copy of the model for other classes.

        Args:
            prototypes: float32 `(C, D)`, one row for each class.
            labels: C names.

        Raises:
            ModelError: If the file takes no prototypes, or expects another shape (`E428`).
        """
        self._need_prototypes()
        expected = self._file.prototype_length
        if prototypes.shape != (len(labels), expected) or not len(labels):
            problem = f"{len(labels)} classes need prototypes of shape ({len(labels)}, {expected})"
            raise ModelError(f"{problem}, not {prototypes.shape}", code="E428")
        model = copy(self)
        model.metadata = replace(self.metadata, output=SingleLabel(classes=tuple(labels)))
        model._prototypes = {PROTOTYPES: np.ascontiguousarray(prototypes, np.float32)}
        return model

    def _need_prototypes(self) -> None:
        if not self.takes_prototypes:
            hint = "export a network that was trained with strategy prototypes"
            raise ModelError(f"{self.path} has {len(self.labels)} fixed classes and takes no others", hint, code="E428")

    def probabilities(self, sources: Sequence[Source]) -> NDArray[np.float32]:
        """Classify images in one call, or one by one if the graph resizes them.

        Args:
            sources: Paths, image files' bytes or decoded images; at least one.

        Returns:
            float32 `(N, classes)`, each row with sum 1.

        Raises:
            ImageError: If one of them is not a usable image.
        """
        return self.probabilities_of(
            [self.feed(source) for source in sources], [*map(name_of, sources, range(len(sources)))]
        )

    def feed(self, source: Source) -> NDArray[np.uint8]:
        """Decode one image for the file's input: resized and cropped, unless the graph itself does that.

        Args:
            source: A path, an image file's bytes, or a decoded image.

        Returns:
            uint8 `(S, S, 3)`, or `(H, W, 3)`.

        Raises:
            ImageError: If it is not a usable image.
        """
        image = to_image(source)
        convert = graph_input if self.with_preprocessing else resize_crop
        return convert(image, self.preprocess)

    def probabilities_of(self, feeds: Sequence[NDArray[np.uint8]], names: Sequence[str]) -> NDArray[np.float32]:
        """Classify decoded images.

        Args:
            feeds: Results of `feed`; at least one.
            names: Names of the images, for errors.

        Returns:
            float32 `(N, classes)`, each row with sum 1.

        Raises:
            ModelError: If the file does not run (`E427`), or returns NaN or infinity (`E429`).
        """
        if not self.with_preprocessing:
            return softmax(self._run_checked(np.stack(feeds), names))
        return np.concatenate([self._run_checked(feed[None], [name]) for feed, name in zip(feeds, names, strict=True)])

    def predict(self, sources: Iterable[Source], *, top: int = 1, batch: int = BATCH) -> list[Prediction]:
        """Classify images.

        Args:
            sources: Paths, image files' bytes or decoded images, which are decoded one batch at a time.
            top: Classes per prediction, from 1 to all.
            batch: Images per call; always 1 if the graph resizes them.

        Returns:
            One prediction per source, in the same order.

        Raises:
            ImageError: For the first source that is not a usable image.
        """
        predictions, iterator = list[Prediction](), iter(sources)
        while chunk := list(islice(iterator, batch)):
            names = [name_of(source, len(predictions) + place) for place, source in enumerate(chunk)]
            rows = self.probabilities_of([self.feed(source) for source in chunk], names)
            predictions += [self.rank(row, top) for row in rows]
        return predictions

    def _run(self, pixels: NDArray[np.uint8], output: str = "") -> NDArray[np.float32]:
        feed = pixels if self.with_preprocessing else normalize(pixels, self.preprocess)
        return self._file.run(feed, self._prototypes, output)

    def _run_checked(self, pixels: NDArray[np.uint8], names: Sequence[str]) -> NDArray[np.float32]:
        return self._file.check(self._run(pixels), names, len(self.labels))

    def rank(self, probabilities: NDArray[np.float32], top: int) -> Prediction:
        """Name the classes of one row of `probabilities`, the most probable ones first."""
        order = np.argsort(-probabilities, kind="stable")[: max(top, 1)]
        ranked = tuple((self.labels[i], float(probabilities[i])) for i in order)
        return Prediction(*ranked[0], ranked)
