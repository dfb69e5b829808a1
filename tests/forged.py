"""Model directories and files as somebody else could make them: changed, and sealed again."""

import json
import shutil
from pathlib import Path

from effxfer.artifact import MANIFEST
from effxfer.files import sha256
from effxfer.signed_safetensors import SEAL, Kind, dump, load, seal


def reseal(folder: Path, **changes: object) -> Path:
    """Change a manifest, and give it the seal of what it says now."""
    raw = json.loads((folder / MANIFEST).read_text()) | changes
    raw.pop(SEAL, None)
    (folder / MANIFEST).write_text(json.dumps({**raw, SEAL: seal(raw)}))
    return folder


def copied(folder: Path, to: Path, **changes: object) -> Path:
    """Copy a model directory, and change its manifest."""
    return reseal(Path(shutil.copytree(folder, to)), **changes)


def listed(folder: Path, name: str, content: bytes) -> Path:
    """Put a file into a model directory, and into its manifest."""
    (folder / name).write_bytes(content)
    files = json.loads((folder / MANIFEST).read_text())["files"]
    return reseal(folder, files={**files, name: sha256(folder / name)})


def rewritten(content: bytes, kind: Kind, **changes: object) -> bytes:
    """Change the document of a ticket or an adapter, and give it the seal of what it says now."""
    from safetensors.torch import load as tensors

    _, document = load(content, "it", kind)
    return dump(tensors(content), {**document, **changes}, kind.document)
