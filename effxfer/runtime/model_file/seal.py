"""An exported file vouches for itself: its last bytes are a digest of all that come before them.

They are one more entry of the model's metadata, `effxfer.sha256`, in the place and form in which protobuf takes it for
any other. Before it lie `effxfer.format`, which says that there is a seal, and `effxfer.weights` where weights lie in a
file beside it. A seal finds damage and mix-ups. It says nothing of who wrote a file: anybody can make one.
"""

import hashlib
from pathlib import Path

from effxfer.runtime.model_file.metadata import FORMAT, SEAL, SEALS, WEIGHTS, ModelError
from effxfer.runtime.model_file.wire import entry, properties

LARGEST = 2**31
CHUNK = 2**20


def sealed(content: bytes, weights: Path | None = None) -> bytes:
    """Give a serialized model with a seal behind it, in place of one that is there.

    Args:
        content: The model.
        weights: The file beside it that holds its weights; it keeps its name. None if they are inside.
    """
    body = unsealed(content) + entry(FORMAT, "1")
    if weights is not None:
        body += entry(WEIGHTS, f"{_digest_of(weights)} {weights.stat().st_size} {weights.name}")
    return body + entry(SEAL, hashlib.sha256(body).hexdigest())


def unsealed(content: bytes) -> bytes:
    """Give a serialized model without the seal that `sealed` put behind it."""
    start = content.rfind(entry(FORMAT, "1"))
    return content[:start] if _is_sealed(content) and start >= 0 else content


def is_sealed(content: bytes, file: Path) -> bool:
    """Whether a file vouches for itself.

    Args:
        content: All of it.
        file: Its name, for errors, and to find its weights.

    Returns:
        False for a file that never had a seal: nothing vouches for it.

    Raises:
        ModelError: If it had one and was changed since, or its weights were (`E404`).
    """
    about = properties(content)
    if not _is_sealed(content):
        if FORMAT in about or SEAL in about:
            raise _changed(f"{file} was changed since it was written: its seal is not at its end")
        return False
    body, told = content[: -len(entry(SEAL, "0" * 64))], content[-64:].decode("ascii", "replace")
    actual = hashlib.sha256(body).hexdigest()
    if actual != told:
        raise _changed(f"{file} was changed since it was written: SHA-256 is {actual[:12]}, not {told[:12]}")
    if WEIGHTS in about:
        _check_weights(about[WEIGHTS], file)
    return True


def read_model(file: Path) -> bytes:
    """Read a model file, whatever it holds.

    Raises:
        ModelError: If it is no regular file, cannot be read, or is larger than any model (`E424`).
    """
    hint = "write one with `effxfer export`; a model takes less than 2 GB, its weights may lie beside it"
    if not file.is_file():
        problem = f"{file} is no regular file" if file.exists() else f"no model file {file}"
        raise ModelError(problem, "name an .onnx file; `effxfer export` writes one", code="E424")
    try:
        if not 0 < file.stat().st_size < LARGEST:
            raise ModelError(f"{file} is no ONNX model: it holds {file.stat().st_size} bytes", hint, code="E424")
        return file.read_bytes()
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error.strerror}", "make it readable", code="E424") from None


def _is_sealed(content: bytes) -> bool:
    trailer = entry(SEAL, "0" * 64)
    return content[-len(trailer) : -64] == trailer[:-64]


def _check_weights(told: str, file: Path) -> None:
    digest, size, name = [*told.split(" ", 2), "", ""][:3]
    place = file.with_name(Path(name).name or file.name)
    if not place.is_file():
        raise ModelError(f"the weights {name!r} of {file} are missing", f"put {name!r} beside it", code="E404")
    if str(place.stat().st_size) != size or _digest_of(place) != digest:
        raise _changed(f"{place}, the weights of {file}, were changed since they were written")


def _digest_of(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _changed(problem: str) -> ModelError:
    own = " and ".join(repr(name) for name in SEALS[:2])
    hint = f"copy it again, or export it again; if you changed it on purpose, remove {own} from its metadata"
    return ModelError(problem, hint, code="E404")
