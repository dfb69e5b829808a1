"""Seal an exported file: its last bytes are the SHA-256 of all bytes before them.

The digest is one more metadata entry, `effxfer.sha256`, which protobuf reads like any other. Two entries precede it:
`effxfer.format`, which marks a sealed file, and `effxfer.weights` if the weights are in a separate file. A seal detects
damage and mix-ups. It does not prove who wrote a file: anybody can make one.
"""

import hashlib
from pathlib import Path

from effxfer.runtime.model_file.metadata import FORMAT, SEAL, SEALS, WEIGHTS, ModelError
from effxfer.runtime.model_file.wire import entry, properties

# Protobuf's limit of a message: 2 GB.
LARGEST = 2**31
# 1 MB at a time: weights of gigabytes are not read into the memory for their digest.
CHUNK = 2**20


def add_seal(content: bytes, weights: Path | None = None) -> bytes:
    """Append a seal to a serialized model, replacing any existing one.

    Args:
        content: The model.
        weights: The separate file of its weights, under its final name; None if they are inside the model.
    """
    body = remove_seal(content) + entry(FORMAT, "1")
    if weights is not None:
        body += entry(WEIGHTS, f"{_sha256(weights)} {weights.stat().st_size} {weights.name}")
    return body + entry(SEAL, hashlib.sha256(body).hexdigest())


def remove_seal(content: bytes) -> bytes:
    """Remove the seal that `add_seal` appended; without one the content is unchanged."""
    # The last one: a label may hold the same bytes.
    start = content.rfind(entry(FORMAT, "1"))
    return content[:start] if _has_trailer(content) and start >= 0 else content


def is_sealed(content: bytes, file: Path) -> bool:
    """Whether a file has an intact seal.

    Args:
        content: The whole content of the file.
        file: Its path, for errors and to locate its weights.

    Returns:
        False for a file that never had a seal.

    Raises:
        ModelError: If the file or its weights were changed after sealing (`E404`).
    """
    metadata = properties(content)
    if not _has_trailer(content):
        if FORMAT in metadata or SEAL in metadata:
            raise _changed_error(f"{file} was changed since it was written: its seal is not at its end")
        return False
    body, stated = content[: -len(entry(SEAL, "0" * 64))], content[-64:].decode("ascii", "replace")
    actual = hashlib.sha256(body).hexdigest()
    if actual != stated:
        raise _changed_error(f"{file} was changed since it was written: SHA-256 is {actual[:12]}, not {stated[:12]}")
    if WEIGHTS in metadata:
        _check_weights(metadata[WEIGHTS], file)
    return True


def read_model(file: Path) -> bytes:
    """Read the bytes of a model file, without looking at them.

    Raises:
        ModelError: If it is no regular file, is unreadable or empty, or has 2 GB or more (`E424`).
    """
    hint = "write one with `effxfer export`; a model has less than 2 GB, its weights may be in a separate file"
    if not file.is_file():
        problem = f"{file} is no regular file" if file.exists() else f"no model file {file}"
        raise ModelError(problem, "name an .onnx file; `effxfer export` writes one", code="E424")
    try:
        if not 0 < file.stat().st_size < LARGEST:
            raise ModelError(f"{file} is no ONNX model: it holds {file.stat().st_size} bytes", hint, code="E424")
        return file.read_bytes()
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error.strerror}", "make it readable", code="E424") from None


def _has_trailer(content: bytes) -> bool:
    trailer = entry(SEAL, "0" * 64)
    return content[-len(trailer) : -64] == trailer[:-64]


def _check_weights(entry_value: str, file: Path) -> None:
    digest, size, name = [*entry_value.split(" ", 2), "", ""][:3]
    weights = file.with_name(Path(name).name or file.name)
    if not weights.is_file():
        raise ModelError(f"the weights {name!r} of {file} are missing", f"put {name!r} beside it", code="E404")
    if str(weights.stat().st_size) != size or _sha256(weights) != digest:
        raise _changed_error(f"{weights}, the weights of {file}, were changed since they were written")


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _changed_error(problem: str) -> ModelError:
    entries = " and ".join(repr(name) for name in SEALS[:2])
    hint = f"copy it again, or export it again; if you changed it on purpose, remove {entries} from its metadata"
    return ModelError(problem, hint, code="E404")
