"""A function that writes tables of classes from their names."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from effxfer.api.result import Reported
from effxfer.api.sources import PathLike
from effxfer.errors import SettingsError
from effxfer.files import write_atomic
from effxfer.report import Measurement, Report
from effxfer.stages.runner.output_dir import check_file

HEADER = "class"
DIGITS = 9  # as many tell any two numbers of float32 apart


@dataclass(frozen=True, kw_only=True, repr=False)
class ClassTableFile(Reported):
    """A table of classes in a file.

    Attributes:
        path: The `.csv` file, for `data.class_embeddings` and `predict --classes`.
    """

    path: Path

    def facts(self) -> dict[str, Any]:
        """Return the path of the file."""
        return {"table": self.path}


def embed_classes(
    classes: Sequence[str], encoder: str, *, out: PathLike, prompts: Sequence[str] = ("{}",), device: str = "auto"
) -> ClassTableFile:
    """Write a row of numbers for each class name: a sentence embedding, or a word vector.

    Args:
        classes: Names; `polar_bear` is read as two words.
        encoder: A text encoder, `hf:FOLDER`, the name of a bundled one or a model directory; a file of word vectors,
            `.txt`, `.vec` or `.npz`; or the `.onnx` file of a tower of a dual encoder, of which that of images takes
            image files as `classes`, so that its text tower finds them by a text.
        out: The `.csv` file to write.
        prompts: Texts with `{}` where a name goes; a class has the mean of their embeddings. Only for an encoder.
        device: `auto`, `cpu`, `cuda` or `cuda:1`.

    Returns:
        The path of the table.

    Raises:
        SettingsError: If there is no class, the file is no `.csv`, or a prompt has no `{}`.
        ModelFileError: If the encoder cannot be opened.
        DataError: If a word has no vector, or two names are alike.

    Examples:
        >>> table = ex.embed_classes(["cat", "truck"], "hf:weights/minilm", out="classes.csv")
    """
    from effxfer.stages.data.class_names import embed_class_names
    from effxfer.train.devices import pick_device

    path = Path(out)
    if path.suffix.lower() != ".csv":
        raise SettingsError(f"{path} is no .csv file", "give out a name that ends in .csv")
    check_file(path)
    if not classes or not prompts:
        raise SettingsError("no class, or no prompt", "name at least one class")
    table = embed_class_names(list(classes), encoder, list(prompts), pick_device(device))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([HEADER, *range(table.width)])
    for name, row in zip(table.names, table.values.tolist(), strict=True):
        writer.writerow([name, *(f"{value:.{DIGITS}g}" for value in row)])
    write_atomic(path, stream.getvalue())
    rows = (
        Measurement(name="classes", value=len(table.names)), Measurement(name="numbers of each", value=table.width),
    )  # fmt: skip
    return ClassTableFile(path=path, report=Report(rows=rows))
