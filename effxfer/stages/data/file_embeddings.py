"""Embed class names, or image files, by an exported file of a dual encoder; no torch.

Shape legend: C classes or images, E numbers of each.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from effxfer.benchmark.untrusted.sandbox import call_in_sandbox
from effxfer.benchmark.untrusted.vet import has_valid_seal, is_untrusted, locate
from effxfer.data.labels.captions import fill_prompts
from effxfer.errors import DataError, ModelFileError, error_of_code
from effxfer.runtime.class_tables.class_table import ClassTable
from effxfer.runtime.class_tables.embed import embed_groups
from effxfer.runtime.images.names import is_image
from effxfer.runtime.images.preprocess import ImageError
from effxfer.runtime.model_file.metadata import ModelError
from effxfer.runtime.text.errors import TextError

FUNCTION = "effxfer.runtime.class_tables.embed:embed_groups"


def embed_by_file(names: Sequence[str], file: Path, prompts: Sequence[str]) -> ClassTable:
    """Return the embeddings of names by a text tower, or of image files by an image tower: `(C, E)`, of length 1.

    Args:
        names: Names of classes, or paths of image files, which stand in the table as they are.
        file: An `.onnx` file, or a directory with `model.onnx`.
        prompts: Texts with `{}` where a name goes; not for image files.

    Raises:
        ModelFileError: If the file cannot be used, or has no space of embeddings.
        DataError: If an image or a text cannot be used.
    """
    file = locate(file)
    has_valid_seal(file)
    files = all(is_image(name) for name in names)
    groups = [[name] if files else list(fill_prompts(name, prompts)) for name in names]
    try:
        if is_untrusted(file):
            rows = call_in_sandbox(FUNCTION, [file], {"file": str(file), "groups": groups}, seconds=2.0 * len(names))
        else:
            rows = embed_groups(file, groups)
    except ModelError as error:
        raise ModelFileError(error.problem, error.hint, code=error.code) from None
    except ImageError as error:
        raise DataError(error.problem, error.hint, code=error.code) from None
    except TextError as error:
        raise error_of_code(error.problem, error.hint, error.code) from None
    return ClassTable(names=tuple(names), values=np.array(rows, np.float32))
