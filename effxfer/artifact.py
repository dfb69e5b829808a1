"""A model directory, the only object that stages exchange.

Reading one needs no torch; only its network does.

    manifest.json         description, origin, and the digests of the other files
    weights.safetensors   parameters and buffers, no code
    memory.safetensors    what is kept of earlier tasks, for networks that learn one after another
    model.onnx            after `export`, and model.int8.onnx if it is faster
    text/                 the model directory of its text tower, if it has one

A directory with a manifest is complete. One without it does not exist.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effxfer import __version__
from effxfer.documents.documents import ManifestDocument
from effxfer.documents.find_mistake import find_mistake
from effxfer.errors import ModelFileError
from effxfer.files import digest, sha256, write_atomic
from effxfer.memory_file import MEMORY, read_memory, write_memory
from effxfer.net.backbones.trust import check_trusted
from effxfer.net.text.text_tower import FOLDER as TEXT_FOLDER
from effxfer.net.text.text_tower import TextTower
from effxfer.report import Report
from effxfer.runtime.inputs import input_from_json
from effxfer.runtime.reading import read_regular
from effxfer.signed_safetensors import SEAL, seal

if TYPE_CHECKING:
    from effxfer.net.net import Edit, Net
    from effxfer.runtime.inputs import Input

SCHEMA = 1  # part of every key: a new layout makes all results anew
MANIFEST, WEIGHTS = "manifest.json", "weights.safetensors"
LARGEST_MANIFEST = 2**26  # 64 MB; those of the demo have up to 33 kB, most of it curves and tables
DEEPEST = 8  # chosen; bundles with the runtime's packages go 4 deep


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Description and origin of an artifact.

    Attributes:
        key: Digest of everything that determined the result; equal keys, equal runs.
        stage: The stage that wrote it.
        settings: All settings of that stage, defaults included.
        parent: Key of the artifact, or identity of the backbone or ticket, that it was made from.
        backbone: The body before `edits`: `{"source": ..., "args": {...}}`.
        edits: Architecture changes to replay, in order.
        preprocess: Preprocessing of the network's input.
        classes: Names of the network's outputs.
        data: Name and digest of each task, and notes on it.
        report: Measurements of the stage.
        files: SHA-256 of every other file.
        versions: Versions of this package and of the packages that the figures depend on.
        smoothing: The largest label smoothing that the network was trained with for its classes.
        schema: Version of this layout.
    """

    key: str
    stage: str
    settings: Mapping[str, Any]
    parent: Any
    backbone: Mapping[str, Any]
    edits: "list[Edit]"
    preprocess: Mapping[str, Any]
    classes: tuple[str, ...]
    data: tuple[Mapping[str, Any], ...] = ()
    report: Report = Report()
    files: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    smoothing: float = 0.0
    schema: int = SCHEMA


@dataclass(frozen=True)
class Artifact:
    """A complete model directory."""

    path: Path
    manifest: Manifest

    @classmethod
    def load(cls, path: Path) -> "Artifact":
        """Read a model directory and check its digests.

        Raises:
            ModelFileError: If the directory is absent, incomplete, altered or of another schema.
        """
        raw = read_manifest(path)
        for name in raw["files"]:
            check_file(path, name, raw["files"])
        facts = {**raw, "classes": tuple(raw["classes"]), "data": tuple(raw.get("data", ()))}
        return cls(path, Manifest(**{**facts, "report": Report.from_json(raw["report"])}))

    def net(self) -> "Net":
        """Rebuild the network and load its weights, in evaluation mode.

        Raises:
            ModelFileError: If it has no weights (a comparison), they do not fit the recorded architecture, or the
                manifest names code that is not trusted: see `effxfer.net.backbones.trust`.
        """
        m = self.manifest
        if WEIGHTS not in m.files:
            raise ModelFileError(
                f"{self.path} is the result of {m.stage}: it holds no network", "name the directory of a network"
            )
        # Before anything is rebuilt: that imports what the manifest names.
        check_trusted(m.backbone, str(self.path / MANIFEST))
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from effxfer.net.backbones.recorded import name_rebuild_errors
        from effxfer.net.edits import rebuild

        weights = self.path / WEIGHTS
        # Sizes in a manifest are claims; memory for the network is limited by the weights that are there.
        with name_rebuild_errors(str(self.path / MANIFEST), weights.stat().st_size):
            net = rebuild(m.backbone, m.edits, self.input(), m.classes)
        try:
            net.load_state_dict(load_file(weights))
        except (RuntimeError, SafetensorError) as error:
            raise ModelFileError(f"{weights} does not fit its manifest: {error}", code="E405") from error
        net.smoothing = m.smoothing
        if f"{TEXT_FOLDER}/{MANIFEST}" in m.files:
            prompts = read_manifest(self.path / TEXT_FOLDER)["settings"].get("prompts", ())
            net.text = TextTower(lambda: Artifact.load(self.path / TEXT_FOLDER).net(), prompts)
        if MEMORY in m.files:
            net.memory = read_memory(net, self.path / MEMORY)
        return net.eval()

    def input(self) -> "Input":
        """Read the network's input, with the files that lie beside its weights.

        Raises:
            ModelFileError: If a file is missing, or is the one of another model.
        """
        from effxfer.runtime.inputs import INPUT_FILES
        from effxfer.runtime.text.errors import TextError

        files = {
            name: read_regular(self.path / name, limit)
            for name, limit in INPUT_FILES.items()
            if name in self.manifest.files
        }
        try:
            return input_from_json(self.manifest.preprocess, files)
        except (ValueError, TextError) as error:
            raise manifest_error(self.path / MANIFEST, str(error)) from None


def check_file(path: Path, name: str, files: Mapping[str, str]) -> Path:
    """Check a file of a model directory against its digest.

    Args:
        path: The directory.
        name: A key of `files`.
        files: SHA-256 by name.

    Returns:
        The file.

    Raises:
        ModelFileError: If it is absent, is reached by a link, is no regular file, or was changed.
    """
    file, hint = path / name, "restore it, or run the stage again with `force`"
    # Folders on the way as well: a linked one leads elsewhere just like a linked file.
    steps = [file, *(above for above in file.parents if above != path and above.is_relative_to(path))]
    try:
        if any(step.is_symlink() for step in steps):
            raise ModelFileError(
                f"{file} is a link, but a model directory must contain its files", "copy the file", code="E404"
            )
        actual = sha256(file)
    except FileNotFoundError:
        actual = "absent"
    except OSError as error:
        raise ModelFileError(f"{file} cannot be read: {error.strerror}", hint, code="E404") from None
    if actual != files[name]:
        text = f"{file} was changed since it was written: SHA-256 is {actual[:12]}, not {files[name][:12]}"
        raise ModelFileError(text, hint, code="E404")
    return file


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a manifest without checking the files it lists.

    Raises:
        ModelFileError: If it is absent, altered, without a seal or of another schema.
    """
    source = path / MANIFEST
    try:
        raw: dict[str, Any] = json.loads(_text(path))
        schema = raw["schema"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise manifest_error(source, str(error)) from error
    # Before the seal: another version may seal otherwise, and its own message helps more.
    if schema != SCHEMA:
        raise ModelFileError(f"{path} has schema {schema}, this effxfer reads {SCHEMA}", "install a matching effxfer")
    if (recorded := raw.pop(SEAL, None)) is None:
        raise manifest_error(source, "it has no seal")
    if recorded != seal(raw):
        raise manifest_error(source, "it was changed since it was written")
    # After the seal: whoever changes a file can seal it anew, so a seal says nothing about sense.
    if reason := find_mistake(ManifestDocument, raw):
        raise manifest_error(source, reason)
    if wrong := [name for name in raw["files"] if not _is_inside(name)]:
        raise manifest_error(source, f"it lists {wrong[0]!r}, which is no file of its own folder")
    return raw


def _text(path: Path) -> bytes:
    """Read the bytes of a manifest."""
    source = path / MANIFEST
    if source.is_symlink():
        raise manifest_error(source, "it is a link")
    try:
        return read_regular(source, LARGEST_MANIFEST)
    except (FileNotFoundError, NotADirectoryError):
        hint = "make one with `effxfer finetune`"
        raise ModelFileError(f"{path} is not a model directory: no {MANIFEST}", hint) from None
    except OSError as error:
        raise manifest_error(source, str(error.strerror)) from error


def _is_inside(name: str) -> bool:
    """Whether a name can only be that of a file in a model directory, or in a folder of it."""
    parts = name.split("/")
    return name.isprintable() and "\\" not in name and not {"", ".", ".."} & set(parts) and len(parts) <= DEEPEST


def manifest_error(manifest: Path, reason: str) -> ModelFileError:
    """Return the error for a damaged manifest."""
    return ModelFileError(f"{manifest} is damaged: {reason}", "run the stage again with `force`", code="E404")


def save(scratch: Path, net: "Net | None", **facts: Any) -> None:
    """Write a network's weights, then the manifest that makes the directory complete.

    Args:
        scratch: Directory of `files.write_directory`; may already contain files of the stage.
        net: The network; None for a stage without one, whose `facts` describe the network of its input.
        facts: The fields of `Manifest` that the network does not provide.
    """
    if net is not None:
        from safetensors.torch import save as serialized

        # Cloned, because safetensors refuses tensors that share memory, such as tied embeddings.
        weights = serialized({name: t.detach().cpu().contiguous().clone() for name, t in net.state_dict().items()})
        write_atomic(scratch / WEIGHTS, weights)
        for name, content in net.input.files().items():
            write_atomic(scratch / name, content)
        if net.text is not None:
            (scratch / TEXT_FOLDER).mkdir(exist_ok=True)
            described = {"key": digest([facts["key"], TEXT_FOLDER]), "settings": {"prompts": list(net.text.prompts)}}
            save(scratch / TEXT_FOLDER, net.text.net, **facts | described | {"report": Report()})
        write_memory(net, scratch / MEMORY)
        facts |= describe(net)
    files = {str(f.relative_to(scratch)): sha256(f) for f in sorted(scratch.rglob("*")) if f.is_file()}
    manifest = Manifest(files=files, versions=versions(), **facts)
    # Through text: tuples become lists, as whoever checks the seal will read them.
    plain = json.loads(json.dumps({**asdict(manifest), "report": manifest.report.to_json()}))
    # Last: a directory with a manifest is complete.
    write_atomic(scratch / MANIFEST, json.dumps({**plain, SEAL: seal(plain)}, indent=1) + "\n")


def describe(net: "Net") -> dict[str, Any]:
    """Return the fields of `Manifest` that describe a network's architecture."""
    return {
        "backbone": net.backbone,
        "edits": net.edits,
        "preprocess": net.input.to_json(),
        "classes": net.classes,
        "smoothing": net.smoothing,
    }


def key_of(stage: str, settings: Mapping[str, Any], data: list[str], parent: object) -> str:
    """Digest all inputs that determine a stage's result."""
    # The version, because another one may compute otherwise.
    return digest([SCHEMA, __version__, stage, settings, data, parent])


def versions() -> dict[str, str]:
    """Return the versions of the packages that the figures depend on."""
    from importlib.metadata import version
    from importlib.util import find_spec

    packages = ("torch", "timm", "torch-pruning", "onnx", "onnxruntime", "optuna", "numpy", "pillow")
    optional = [name for name in ("openvino",) if find_spec(name)]
    return {"effxfer": __version__, **{name: version(name) for name in (*packages, *optional)}}
