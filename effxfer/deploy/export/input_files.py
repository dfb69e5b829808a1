"""Files next to an exported file: the tokenizer of a network that reads texts."""

import shutil
from pathlib import Path

from effxfer.errors import ModelFileError
from effxfer.files import write_atomic
from effxfer.runtime.inputs import INPUT_FILES, Input


def require_own_folder(file: Path, input: Input) -> None:
    """Refuse to write a model next to the tokenizer of another one, because a folder has only one.

    Args:
        file: File of the model to write.
        input: Input of the model.

    Raises:
        ModelFileError: `E446` with the name of the file that differs.
    """
    for name, content in input.files().items():
        present = file.with_name(name)
        if present.is_file() and present.read_bytes() != content:
            text = f"{present} belongs to another model"
            raise ModelFileError(text, f"write {file.name} into another folder", code="E446")


def write_input_files(input: Input, folder: Path) -> None:
    """Write the files of an input, such as `tokenizer.json`."""
    for name, content in input.files().items():
        write_atomic(folder / name, content)


def copy_input_files(file: Path, folder: Path) -> None:
    """Copy the files next to a model to the folder of a file that is made from it."""
    for name in INPUT_FILES:
        if file.with_name(name).is_file():
            shutil.copyfile(file.with_name(name), folder / name)
