"""Run an exported model on images, texts or vectors.

>>> model = Model("runs/mine/export/model.onnx")  # doctest: +SKIP
>>> model.predict(["photo.jpg"])[0]  # doctest: +SKIP
Prediction(label='cat', probability=0.98, top=(('cat', 0.98),))
"""

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from effxfer.runtime.checked_session import CheckedSession
from effxfer.runtime.class_tables.class_rows import ClassRows, embedding_rows, prototype_rows
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.runtime.inputs import Input
from effxfer.runtime.model_file.metadata import FEATURES, ModelError
from effxfer.runtime.outputs.base import Output
from effxfer.runtime.outputs.predictions import MultiLabelPrediction, Prediction, RegressionPrediction, to_predictions
from effxfer.runtime.outputs.single_label import SingleLabel
from effxfer.runtime.outputs.text_answers import decode, predict_decoded
from effxfer.runtime.rows import Ragged, Rows, map_batches
from effxfer.runtime.session import CPU, ONNXRUNTIME
from effxfer.runtime.source import Source, name_of, to_feed
from effxfer.runtime.text.tokens import Tokens

__all__ = ["Model", "ModelError", "MultiLabelPrediction", "Prediction", "RegressionPrediction", "Source"]
Kind = TypeVar("Kind", Preprocess, Tokens)
# Chosen, not measured: 32 images of 224 px are 19 MB of float32; a CPU gains little from more.
BATCH = 32
# Chosen: texts of 16 batches are sorted by length; of more, ids would take memory and the first answer time.
TEXT_STRETCH = 16


class Model:
    """An exported model, its input and its output.

    Args:
        path: The `.onnx` file.
        threads: Threads within an operator, at most one per logical core; 0 for one per physical core, within the
            container's CPU limit.
        providers: ONNX Runtime execution providers in order of preference; missing ones are skipped. The attribute
            `providers` lists those in use.
        options: ONNX Runtime session options to start from; None for the defaults of `session_options`.
        runtime: `onnxruntime`, or `openvino` on a CPU, without `providers` and `options`.

    Raises:
        ModelError: If the file is absent, damaged, refused by the runtime, or not written by effxfer, if its tokenizer
            is absent or that of another model, or if the runtime or all of its providers are not installed.
    """

    def __init__(
        self, path: str | Path, *, threads: int = 0, providers: Sequence[str] = CPU, options: Any = None,
        runtime: str = ONNXRUNTIME,
    ) -> None:  # fmt: skip
        self.path = Path(path)
        self._file = CheckedSession(self.path, threads=threads, providers=providers, options=options, runtime=runtime)
        self.sealed, self.metadata = self._file.sealed, self._file.metadata
        self._class_rows = ClassRows()

    @property
    def providers(self) -> tuple[str, ...]:
        """Execution providers that run the file, in order of preference."""
        return tuple(self._file.session.get_providers())

    @property
    def runs_in(self) -> str:
        """Name and version of the runtime that runs the file, such as `OpenVINO 2026.4.1`."""
        return self._file.runs_in

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of classes or values, in the order of the outputs."""
        return self.metadata.labels

    @property
    def input(self) -> Input:
        """Conversion of an example into the input."""
        return self.metadata.input

    @property
    def output(self) -> Output:
        """The kind of label."""
        return self.metadata.output

    @property
    def preprocess(self) -> Preprocess:
        """Conversion of an image into the input.

        Raises:
            ModelError: If the model takes no images (`E428`).
        """
        return self._input(Preprocess)

    @property
    def tokens(self) -> Tokens:
        """Conversion of a text into the input.

        Raises:
            ModelError: If the model takes no texts (`E428`).
        """
        return self._input(Tokens)

    def _input(self, kind: type[Kind]) -> Kind:
        if not isinstance(self.input, kind):
            raise ModelError(f"{self.path} takes {self.input.unit}, not {kind.unit}", code="E428")
        return self.input

    @property
    def with_preprocessing(self) -> bool:
        """Whether the graph takes decoded images, uint8 `(N, H, W, 3)`, and returns probabilities, not logits."""
        return self.metadata.with_preprocessing

    @property
    def takes_prototypes(self) -> bool:
        """Whether classes can be set at run time, by `with_prototypes` or `runtime.few_shot.support.learn`."""
        return self._file.takes_prototypes

    @property
    def input_name(self) -> str:
        """Name of the input.

        It is `images`, float32 `(N, 3, S, S)`; with preprocessing `pixels`, uint8 `(N, H, W, 3)`; `ids` of texts, int64
        `(N, length)`; `features`, standardised vectors, float32 `(N, D)`.
        """
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
        return to_feed(source, self.preprocess)

    def logits(self, rows: Rows, *, batch: int = BATCH) -> NDArray[np.float32]:
        """Run the network.

        Args:
            rows: Decoded examples, from one of the library's data sets or of `feed`: uint8 `(N, S, S, 3)`, `Ragged`
                ids, or vectors `(N, D)`; N may be 0.
            batch: Examples per call; texts of like length are run together.

        Returns:
            float32 `(N, C)`: logits, or standardised values.

        Raises:
            ModelError: If the graph returns probabilities, or values in their unit (`E428`).
        """
        if self.with_preprocessing:
            answers = "values in their units" if self.output.kind == "value" else "probabilities"
            text = f"{self.path} returns {answers}, not logits"
            raise ModelError(text, "use probabilities or predict", code="E428")
        return map_batches(rows, batch, self.run, len(self.labels))

    def features(self, sources: Sequence[Source]) -> NDArray[np.float32]:
        """Compute the features that classes are distinguished by, for a file that takes prototypes.

        Args:
            sources: Examples as for `predict`; at least one.

        Returns:
            float32 `(N, D)`; the mean of a class's rows is its prototype.

        Raises:
            ImageError: If one of them is not a usable image.
            TextError: If one of them is not a usable text.
            ModelError: If the file takes no prototypes (`E428`).
        """
        self._need_prototypes()
        return np.concatenate([self.features_of(self._stack([self.feed(source)])) for source in sources])

    def features_of(self, rows: Rows, *, batch: int = BATCH) -> NDArray[np.float32]:
        """Compute features, float32 `(N, D)`, of decoded examples in the file's input shape; N at least 1."""
        self._need_prototypes()
        return map_batches(rows, batch, lambda chunk: self.run(chunk, FEATURES), self._file.prototype_length)

    def with_prototypes(self, prototypes: NDArray[np.float32], labels: Sequence[str]) -> "Model":
        """Return a copy of the model for other classes.

        Args:
            prototypes: float32 `(C, D)`, one row for each class.
            labels: C names.

        Raises:
            ModelError: If the file takes no prototypes, or expects another shape (`E428`).
        """
        self._need_prototypes()
        return self._replace_classes(labels, prototype_rows(prototypes, labels, self._file.prototype_length))

    @property
    def takes_classes(self) -> bool:
        """Whether classes can be set at run time by their class embeddings, by `with_classes`."""
        return bool(self.embedding_length)

    @property
    def embedding_length(self) -> int:
        """Numbers of each class, of a file that takes other classes; 0 for others."""
        return self._file.embedding_length

    def with_classes(
        self, table: NDArray[np.float32], labels: Sequence[str], *, calibration: float | None = None
    ) -> "Model":
        """Return a copy of the model for other classes, of which no example is needed.

        The logits of its own classes are lowered, by their names, where new ones stand beside them: it was trained on
        examples of its own alone, and prefers them.

        Args:
            table: Class embeddings of the kind that it was trained with, float32 `(C, E)`, one row for each class.
            labels: C names.
            calibration: By how much; None for what was chosen in training, 0 for not at all.

        Raises:
            ModelError: If the file takes no class embeddings, or expects others (`E428`).
        """
        width = self.embedding_length
        if not width:
            hint = "export a network that was trained with a zero-shot strategy, such as eszsl"
            raise ModelError(f"{self.path} takes no class embeddings", hint, code="E428")
        lowered = self.metadata.calibration if calibration is None else calibration
        trained = set(self._file.metadata.labels)
        return self._replace_classes(labels, embedding_rows(table, labels, width, trained=trained, calibration=lowered))

    def _replace_classes(self, labels: Sequence[str], rows: ClassRows) -> "Model":
        model = copy(self)
        model.metadata = replace(self.metadata, output=SingleLabel(classes=tuple(labels)))
        model._class_rows = rows
        return model

    def _need_prototypes(self) -> None:
        if not self.takes_prototypes:
            hint = "export a network that was trained with strategy prototypes"
            raise ModelError(f"{self.path} has {len(self.labels)} fixed classes and takes no others", hint, code="E428")

    def probabilities(self, sources: Sequence[Source]) -> NDArray[np.float32]:
        """Compute probabilities, in one call, or one by one if the graph resizes images.

        Args:
            sources: Examples as for `predict`; at least one.

        Returns:
            float32 `(N, classes)`, each row with sum 1; for several labels each class by itself.

        Raises:
            ImageError: If one of them is not a usable image.
            TextError: If one of them is not a usable text.
            ModelError: If the model gives values (`E428`).
        """
        if self.output.kind in ("value", "span"):
            raise ModelError(f"{self.path} gives {self.output.kind}s, not probabilities", "use predict", code="E428")
        outputs = self.outputs(sources)
        return outputs if self.with_preprocessing else self.output.to_answers(outputs)

    def outputs(self, sources: Sequence[Source]) -> NDArray[np.float32]:
        """Return what the graph gives for examples, finite float32 `(N, C)`; arguments and errors as `predict`.

        These are logits or standardised values; with preprocessing, probabilities or values in their unit.
        """
        names = [name_of(source, place, self.input) for place, source in enumerate(sources)]
        return self.outputs_of([self.feed(source) for source in sources], names, batch=max(1, len(names)))

    def feed(self, source: Source) -> NDArray[Any]:
        """Decode one example for the file's input; an image is resized and cropped, unless the graph itself does that.

        Args:
            source: An example as for `predict`.

        Returns:
            uint8 `(S, S, 3)`, with preprocessing `(H, W, 3)`; ids of a text, int32 `(n,)`; a vector, float32 `(D,)`.

        Raises:
            ImageError: If it is not a usable image.
            TextError: If it is not a usable text.
            VectorError: If it is not a usable vector.
        """
        return to_feed(source, self.input, keeps_size=self.with_preprocessing)

    def outputs_of(
        self, feeds: Sequence[NDArray[Any]], names: Sequence[str], *, batch: int = BATCH
    ) -> NDArray[np.float32]:
        """Run the graph on decoded examples.

        Args:
            feeds: Results of `feed`; at least one.
            names: Names of the examples, for errors.
            batch: Examples per call; always 1 if the graph resizes images.

        Returns:
            As `outputs`.

        Raises:
            ModelError: If the file does not run (`E427`), or returns NaN or infinity (`E429`).
        """
        if self.with_preprocessing:
            rows = [self.check_outputs(self.run(feed[None]), [name]) for feed, name in zip(feeds, names, strict=True)]
            return np.concatenate(rows)
        return self.check_outputs(map_batches(self._stack(feeds), batch, self.run, len(self.labels)), names)

    def predict(self, sources: Iterable[Source], *, top: int = 1, batch: int = BATCH) -> list[Any]:
        """Predict labels or values.

        Args:
            sources: Images: paths, image files' bytes or decoded images. Texts: strings, pairs of strings, paths or
                bytes of text files. Vectors: arrays or lists of D numbers, or rows of `read_vectors`. They are decoded
                some at a time.
            top: Classes per prediction, from 1 to all.
            batch: Examples per call; always 1 if the graph resizes images.

        Returns:
            One prediction per source, in the same order: a `Prediction`, a `MultiLabelPrediction`, a
            `RegressionPrediction`, a `TaggingPrediction` or a `SpanPrediction`.

        Raises:
            ImageError: For the first source that is not a usable image.
            TextError: For the first source that is not a usable text.
            VectorError: For the first source that is not a usable vector.
        """
        predictions, iterator = list[Any](), iter(sources)
        while chunk := list(islice(iterator, batch * self.stretch)):
            names = [name_of(source, len(predictions) + place, self.input) for place, source in enumerate(chunk)]
            predictions += predict_decoded(self, [decode(self, source) for source in chunk], names, top, batch)
        return predictions

    def predict_feeds(self, feeds: Sequence[NDArray[Any]], names: Sequence[str], top: int, batch: int) -> list[Any]:
        """Predict decoded examples; arguments and errors as `outputs_of`, `top` as for `predict`."""
        return self.to_predictions(self.outputs_of(feeds, names, batch=batch), top)

    @property
    def stretch(self) -> int:
        """Batches that `predict` decodes at a time: several of texts, so that those of like length run together."""
        return TEXT_STRETCH if self.input.kind == "text" else 1

    def to_predictions(self, outputs: NDArray[np.float32], top: int = 1) -> list[Any]:
        """Turn what the graph gave, `(N, C)`, into predictions; see `predict`."""
        answers = outputs if self.with_preprocessing else self.output.to_answers(outputs)
        return [*to_predictions(self.output, answers, self.output.decide(outputs), top)]

    def _stack(self, feeds: Sequence[NDArray[Any]]) -> Rows:
        return Ragged.of(feeds) if self.input.kind == "text" else np.stack(feeds)

    def run(self, rows: Any, output: str = "") -> NDArray[np.float32]:
        """Run the graph on one batch of decoded examples."""
        feed = rows if self.with_preprocessing else self.input.feed(rows)
        outputs = self._file.run(feed, self._class_rows.tables, output)
        # Of another output than the first, columns are no classes.
        return outputs if output else self._class_rows.lower(outputs, probabilities=self.with_preprocessing)

    def check_outputs(self, outputs: NDArray[np.float32], names: Sequence[str]) -> NDArray[np.float32]:
        """Return outputs for named examples if `CheckedSession.check` accepts them."""
        return self._file.check(outputs, names, len(self.labels))
