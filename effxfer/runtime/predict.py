"""Run an exported model on image files, texts or vectors; the results are plain values."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from effxfer.runtime.class_tables.class_table import read_class_table
from effxfer.runtime.few_shot.support import open_classes
from effxfer.runtime.images.preprocess import ImageError
from effxfer.runtime.model import BATCH, Model
from effxfer.runtime.outputs.text_answers import decode, predict_decoded
from effxfer.runtime.session import ONNXRUNTIME
from effxfer.runtime.source import Source, to_text
from effxfer.runtime.text.errors import TextError
from effxfer.runtime.text_lines import read_texts
from effxfer.runtime.vectors.vectors import VectorError, VectorRow, read_vectors

Text = str | Sequence[str]


def predict_files(
    file: str | Path, images: Sequence[str | Path] = (), *, texts: Sequence[Text] = (),
    text_file: str | Path | None = None, support: str | Path | None = None, classes: str | Path | None = None,
    top: int = 1, threads: int = 0, runtime: str = ONNXRUNTIME,
) -> list[dict[str, Any]]:  # fmt: skip
    """Predict files and texts; give rows of plain values, one for each.

    Args:
        file: The `.onnx` file.
        images: Image files; for a model of texts files of one text each, of vectors `.npy` or `.npz` files.
        texts: Texts, or pairs of texts, behind the files.
        text_file: A file with a text, or a pair of texts, in each line, see `runtime.text_lines.read_texts`.
        support: A folder of class folders, or a file that `enroll` wrote: classify into these classes instead of the
            model's own.
        classes: A `.csv` file of classes, see `read_class_table`: classify into these instead of the model's own.
        top: Classes per example.
        threads: Threads within an operator; 0 for one per physical core.
        runtime: See `Model`.

    Returns:
        Rows of `file`, of `file` and `row`, or of `text` and `other`, with the prediction: `label`, `probability` and
        `top`, a list of `label` and `probability`, where an example of no enrolled class has the label None; for
        several labels `labels`, a list like it, and `top`; `values` by name; for tags `entities` or `words`, see
        `TaggingPrediction`; `answer`, `start`, `end` and `probability`; or `tasks`, with such a row by task.
        Rows of unusable examples have `error` instead. Rows of texts that lost their end have `cut`, which is true.

    Raises:
        ModelError: If the model cannot be opened or run, does not take such examples or other classes, or returns NaN
            or infinity.
        ImageError: If the support cannot be used.
        TextError: If the lines of the file of texts cannot be used.
        VectorError: If a file of vectors cannot be used.
        ClassTableError: If the file of classes cannot be used.
    """
    model = Model(file, threads=threads, runtime=runtime)
    model = open_classes(model, support) if support else model
    model = describe_classes(model, classes) if classes else model
    return list(iter_predictions(model, read_sources(model, images, texts, text_file), top=top))


def describe_classes(model: Model, classes: str | Path) -> Model:
    """Return a model with the classes of a `.csv` file, known by their class embeddings alone.

    Raises:
        ClassTableError: If the file cannot be used.
        ModelError: If the model takes no class embeddings, or others (`E428`).
    """
    table = read_class_table(Path(classes))
    return model.with_classes(table.values, table.names)


def pair_texts(texts: Sequence[str], second_texts: Sequence[str]) -> list[str | tuple[str, str]]:
    """Return texts, or pairs of them where there are as many second ones."""
    return list(zip(texts, second_texts, strict=True)) if second_texts else list(texts)


def read_sources(
    model: Model, files: Iterable[str | Path], texts: Sequence[Text], text_file: str | Path | None, *,
    as_json: bool = False,
) -> list[Source]:  # fmt: skip
    """Return what a model shall predict: files, texts, and the lines of a file.

    Args:
        model: Says whether lines are pairs of texts.
        files: Image files, files of one text each, or files of vectors.
        texts: Texts, or pairs of them.
        text_file: A text in each line, see `read_texts`; None for no file.
        as_json: As `read_texts`.

    Raises:
        ModelError: If there are texts for a model that takes none (`E428`).
        TextError: If the lines cannot be used.
        VectorError: If a file of vectors cannot be used.
    """
    sources: list[Source] = [*map(Path, files)]
    if model.input.kind == "vector":
        sources = [row for file in files for row in read_vectors(Path(file))]
    if texts or text_file:
        pairs = model.tokens.takes_pairs
        sources += [text if isinstance(text, str) else (text[0], text[1]) for text in texts]
        sources += read_texts(Path(text_file), pairs=pairs, as_json=as_json) if text_file else []
    return sources


def iter_predictions(
    model: Model, sources: Iterable[Source], *, top: int = 1, batch: int = BATCH
) -> Iterator[dict[str, Any]]:
    """Predict examples a few at a time.

    Args:
        model: The opened model.
        sources: Image files as paths; texts, pairs of texts, or files of a text as paths; rows of files of vectors.
        top: Classes per example.
        batch: Examples per call.

    Yields:
        Rows of `predict_files`, in the order of the examples.

    Raises:
        ModelError: If the model cannot be run, or returns NaN or infinity.
    """
    iterator = iter(sources)
    while chunk := list(islice(iterator, batch * model.stretch)):
        rows, feeds = [describe(source) for source in chunk], dict[int, Any]()
        for place, source in enumerate(chunk):
            try:
                feeds[place], is_cut = _decode(model, source)
                rows[place] |= {"cut": True} if is_cut else {}
            except (ImageError, TextError, VectorError) as error:
                rows[place] |= {"error": str(error)}
        if feeds:
            names = [":".join(map(str, describe(chunk[place]).values())) for place in feeds]
            predictions = predict_decoded(model, list(feeds.values()), names, top, batch)
            for place, prediction in zip(feeds, predictions, strict=True):
                rows[place] |= prediction.to_json()
        yield from rows


def describe(source: Source) -> dict[str, Any]:
    """Return the part of a row that says what was predicted.

    >>> describe(Path("a.jpg")), describe("Worth every cent"), describe(("It rains.", "It is wet."))
    ({'file': 'a.jpg'}, {'text': 'Worth every cent'}, {'text': 'It rains.', 'other': 'It is wet.'})
    """
    if isinstance(source, VectorRow):
        return {"file": str(source.file), "row": source.row}
    if isinstance(source, str):
        return {"text": source}
    return {"text": source[0], "other": source[1]} if isinstance(source, tuple) else {"file": str(source)}


def _decode(model: Model, source: Source) -> tuple[Any, bool]:
    """Return a decoded example, and whether it is a text that lost its end."""
    if model.input.kind != "text":
        return model.feed(source), False
    if model.output.per == "position":
        reading = decode(model, source)
        return reading, bool(reading.encodings.cut)
    encodings = model.tokens.encode([to_text(source)])
    return encodings.rows.row(0), bool(encodings.cut) or len(encodings.rows) > 1
