"""Read the tables of tensors in checkpoint files of other trainers, by their path in the file, without running code.

Checkpoints also hold the trainer's own state: arguments, metrics, counters, other networks.
"""

from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch
from torch import Tensor

from effxfer.errors import ModelFileError, out_of_memory, requested_bytes

Tables = dict[str, dict[str, Tensor]]

ZIP, PICKLE, POINTER = b"PK", b"\x80", b"version h"
# A safetensors file begins with its header's length in 8 bytes: one of 128 bytes and some KB looks like a pickle.
SAFETENSORS = b"\0\0\0\0{"
MOST_NODES = 100_000  # containers that are searched: a checkpoint with an optimizer's state has a few thousand
# Chosen: trainers nest three or four deep (`state_dict.ema.model`); a file may nest without end.
MOST_DEPTH = 32
# An expanded tensor (stride 0) claims more numbers than its file holds; in intact files the excess is small.
EXCESS = 64 * 2**20


class Inert:
    """Stand-in for a value that no network needs: accepts any arguments and state, and ignores them."""

    def __init__(self, *_arguments: Any) -> None:
        """Accept any arguments."""

    def __setstate__(self, _state: Any) -> None:
        """Accept any state."""


class EmptyTable:
    """Stand-in for a subclass of dict."""

    def __new__(cls, *_arguments: Any) -> OrderedDict[str, Any]:  # type: ignore[misc]
        """Return a plain dictionary, which the unpickler fills."""
        return OrderedDict()


class EmptyList:
    """Stand-in for a subclass of list."""

    def __new__(cls, *_arguments: Any) -> list[Any]:  # type: ignore[misc]
        """Return a plain list, which the unpickler fills."""
        return []


# Types that trainers save beside weights. Each is replaced by an `Inert` or an empty dictionary or list. The type
# itself is never imported, called or looked up, so none of these can run code.
INERT = (
    "argparse.Namespace",  # arguments of timm, torchvision's references, DeiT, DINO
    "types.SimpleNamespace",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    "numpy.dtype",  # with the three above: a metric that numpy computed
    "numpy.ndarray",
    *(f"pathlib.{module}{kind}Path" for module in ("", "_local.") for kind in ("", "Posix", "Windows", "PurePosix")),
    *(f"datetime.{name}" for name in ("datetime", "date", "timedelta")),
    "torch.torch_version.TorchVersion",  # `torch.__version__` is one
    *(f"builtins.{name}" for name in ("dict", "list", "tuple", "int", "float", "str", "bool", "getattr")),
    "typing.Any",
    *(f"omegaconf.{name}" for name in ("dictconfig.DictConfig", "listconfig.ListConfig", "nodes.AnyNode")),
    *(f"omegaconf.base.{name}" for name in ("ContainerMetadata", "Metadata")),
    "mmengine.logging.history_buffer.HistoryBuffer",
    *(f"pytorch_lightning.callbacks.{n}" for n in ("model_checkpoint.ModelCheckpoint", "early_stopping.EarlyStopping")),
)
TABLES = (
    "collections.defaultdict",
    "mmengine.config.config.ConfigDict",
    "yacs.config.CfgNode",
    "easydict.EasyDict",
    *(f"{name}.AttributeDict" for name in ("pytorch_lightning.utilities.parsing", "lightning_fabric.utilities.data")),
    "lightning.fabric.utilities.data.AttributeDict",
)
LISTS = ("collections.deque",)


def read_tables(file: Path) -> Tables:
    """Read the tensors of a `.safetensors`, or a weights-only `.pth`, `.pt`, `.ckpt` or `.bin`, without running code.

    Returns:
        Each table of tensors by its dotted path in the file (`state_dict`, `ema.model`; the top level is `""`).
        Entries that are no tensors, or whose names are no text, are skipped.

    Raises:
        ModelFileError: If the file is absent, damaged or of another format, holds code or no tensors, or claims more
            data than it has.
    """
    if not file.is_file():
        raise ModelFileError(f"no weights file {file}", "give the path of a .safetensors or .pth file")
    with file.open("rb") as stream:
        start = stream.read(9)
    if start == POINTER:
        text = f"{file} is a Git LFS pointer, not the file itself"
        raise ModelFileError(text, "fetch the file with `git lfs pull`", code="E403")
    pickled = start.startswith((ZIP, PICKLE)) and start[4:] != SAFETENSORS
    by_content = pickled or start[8:] == b"{"
    safe = not pickled if by_content else file.suffix == ".safetensors"
    tables = {"": _read_safetensors(file)} if safe else dict(_walk_tables(_read_torch(file, start)))
    if not tables:
        raise ModelFileError(f"{file} holds no table of tensors", "save the network's state_dict()", code="E402")
    _check_sizes(tables, file)
    return tables


def abbreviate(names: list[str], limit: int = 5) -> str:
    """Join the first few names with commas and count the rest."""
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"{file} is not a complete safetensors file: {error}", code="E403") from error


def _read_torch(file: Path, start: bytes) -> Any:
    from pickle import UnpicklingError
    from warnings import catch_warnings, simplefilter

    if not start.startswith((ZIP, PICKLE)):
        text = f"{file} is not a complete weights file: unknown file signature"
        raise ModelFileError(text, "give a .safetensors file, or one that torch.save wrote", code="E403")
    _check_zip(file, start)
    try:
        # A stream, because torch guesses another format from some file names.
        with catch_warnings(), torch.serialization.safe_globals(_stand_ins()), file.open("rb") as stream:
            simplefilter("ignore")
            return torch.load(stream, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file may raise anything
        if out_of_memory(error) and requested_bytes(error) <= file.stat().st_size + EXCESS:
            raise  # the machine is short of memory; a damaged file asks for more than its size
        if isinstance(error, UnpicklingError) or "TorchScript" in str(error):
            raise _code_error(file) from error
        reason = str(error).partition("\n")[0]
        raise ModelFileError(f"{file} is not a complete weights file: {reason}", code="E403") from error


def _stand_ins() -> list[Any]:
    kinds: dict[type, tuple[str, ...]] = {Inert: INERT, EmptyTable: TABLES, EmptyList: LISTS}
    return [(stand_in, name) for stand_in, names in kinds.items() for name in names]


def _check_zip(file: Path, start: bytes) -> None:
    """Refuse an archive that unpacks to more than its size (a zip bomb); torch.save never compresses."""
    if not start.startswith(ZIP):
        return
    try:
        with ZipFile(file) as archive:
            size = sum(member.file_size for member in archive.infolist())
    except (BadZipFile, ValueError, NotImplementedError, OSError) as error:
        raise ModelFileError(f"{file} is not a complete weights file: {error}", code="E403") from error
    if size > file.stat().st_size:
        text = f"{file} of {file.stat().st_size:,} bytes unpacks to {size:,}"
        raise ModelFileError(text, "save its state_dict() with torch.save, which does not compress", code="E408")


def _code_error(file: Path) -> ModelFileError:
    """Return the error for a file that needs more than tensors, with the names that it would import."""
    try:
        needed = sorted(set(torch.serialization.get_unsafe_globals_in_checkpoint(file)) - {*INERT, *TABLES, *LISTS})
    except Exception:  # torch cannot list every pickle; the file is refused anyway
        needed = []
    text = f"{file} holds code, not only tensors: refused" + (f" (it would run {abbreviate(needed)})" if needed else "")
    hint = "save its state_dict() with safetensors on a machine where you trust it"
    if needed and all(name.startswith("torch.distributed") for name in needed):
        hint = "it is one shard of distributed training: save the full state_dict() of the network"
    return ModelFileError(text, hint, code="E401")


def _walk_tables(raw: Any) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield the tables of tensors in nested containers, outer ones first; containers may contain themselves."""
    visited: set[int] = set()
    queue = deque([("", 0, raw)])
    while queue and len(visited) < MOST_NODES:
        path, depth, node = queue.popleft()
        if id(node) in visited or depth > MOST_DEPTH:
            continue
        visited.add(id(node))
        entries = dict(_entries(node))
        tensors = {name: value for name, value in entries.items() if isinstance(value, Tensor)}
        for tensor in tensors.values():
            vars(tensor).clear()  # a file may set attributes on a tensor that hide its methods
        if tensors := {name: tensor for name, tensor in tensors.items() if not tensor.is_nested}:  # these have no shape
            yield path, tensors
        queue.extend((f"{path}.{name}".lstrip("."), depth + 1, inner) for name, inner in entries.items())


def _entries(node: Any) -> Iterator[tuple[str, Any]]:
    """Yield the entries of a container by name; entries of a list by index."""
    if isinstance(node, list | tuple):
        node = {str(index): value for index, value in enumerate(node)}
    if isinstance(node, Mapping):
        yield from ((name, value) for name, value in node.items() if isinstance(name, str))


def _check_sizes(tables: Tables, file: Path) -> None:
    limit = file.stat().st_size + EXCESS
    for name, tensor in ((name, tensor) for table in tables.values() for name, tensor in table.items()):
        if tensor.numel() * tensor.element_size() > limit and not tensor.is_meta:
            text = f"{file} of {file.stat().st_size:,} bytes claims that {name} has {tensor.numel():,} numbers"
            raise ModelFileError(text, "get an intact copy", code="E408")
