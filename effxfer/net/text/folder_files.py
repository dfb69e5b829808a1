"""Read the small JSON files of a Hugging Face folder: anybody may have written them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from effxfer.errors import ModelFileError, shorten
from effxfer.net.backbones.checkpoint import abbreviate
from effxfer.runtime.reading import read_regular

LARGEST_CONFIG = 2**22
HINT = "give the folder that `save_pretrained` of transformers wrote"


def read_json(file: Path) -> Any:
    """Parse a JSON file of bounded size and depth.

    Raises:
        ModelFileError: `E434`, if it is absent, too large, or no JSON.
    """
    try:
        return json.loads(read_regular(file, LARGEST_CONFIG))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise ModelFileError(f"{file} cannot be read: {shorten(reason)}", HINT, code="E434") from None


def read_table(file: Path) -> Mapping[str, Any]:
    """Parse a JSON file that holds one object, as `read_json`."""
    table = read_json(file)
    if not isinstance(table, dict):
        raise ModelFileError(f"{file} holds {type(table).__name__}, not an object", HINT, code="E434")
    return table


def read_optional(file: Path) -> Mapping[str, Any]:
    """Parse a JSON object as `read_table`; an empty one if there is no file."""
    return read_table(file) if file.exists() else {}


def child_folder(folder: Path, name: object, origin: Path) -> Path:
    """Return a folder inside another one, by the name that a file gives it.

    Raises:
        ModelFileError: `E434`, if the name leads elsewhere.
    """
    parts = Path(name).parts if isinstance(name, str) else ("..",)
    if len(parts) > 1 or "\0" in str(name) or any(part in ("..", "/") or Path(part).is_absolute() for part in parts):
        raise ModelFileError(f"{origin} names the folder {name!r:.80}, which is not inside", HINT, code="E434")
    return folder.joinpath(*parts)


def require_fit(
    file: Path, config: str, *, missing: list[str], wrong: list[str], unknown: list[str], hint: str
) -> None:  # fmt: skip
    """Refuse weights that are not those of the network that a configuration describes.

    Args:
        file: The weights.
        config: How messages call the configuration.
        missing: Names of tensors that the network has and the file lacks.
        wrong: Tensors of another shape, each with both shapes.
        unknown: Names of tensors that the network lacks.
        hint: What to do about unknown ones.

    Raises:
        ModelFileError: `E405`, if some are missing or of another shape; `E406`, if there are unknown ones.
    """
    listed = (("missing", missing), ("of another shape", wrong), ("unknown", unknown))
    table = "; ".join(f"{len(names)} {word} ({abbreviate(names)})" for word, names in listed if names)
    if missing or wrong:
        raise ModelFileError(f"{file} does not fit {config}: {table}", "get an intact copy of both", code="E405")
    if unknown:
        raise ModelFileError(f"{file} has tensors that the network lacks: {table}", hint, code="E406")
