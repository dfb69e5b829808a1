"""Checkpoint files of other trainers: the tables of tensors in them, by their place in the file; no code is run.

Beside tensors they hold what a trainer keeps for itself: arguments, metrics, counters, other networks.
"""

from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch
from torch import Tensor

from effxfer.errors import ModelFileError, asked_for, out_of_memory

Tables = dict[str, dict[str, Tensor]]

ZIP, PICKLE, POINTER = b"PK", b"\x80", b"version h"
MOST_NODES = 100_000  # containers that are looked into: a checkpoint with an optimizer's state has some thousand
MOST_DEPTH = 32
# An expanded tensor (stride 0) says more numbers than its file holds; of honest ones the excess is small.
EXCESS = 64 * 2**20


class Inert:
    """Stands for a value that no network needs: takes whatever a file gives it, and does nothing with it."""

    def __init__(self, *_arguments: Any) -> None:
        """Take anything."""

    def __setstate__(self, _state: Any) -> None:
        """Take anything."""


class EmptyTable:
    """Stands for a dictionary of somebody's own kind."""

    def __new__(cls, *_arguments: Any) -> OrderedDict[str, Any]:  # type: ignore[misc]
        """Give a plain one, which the reader fills."""
        return OrderedDict()


class EmptyList:
    """Stands for a list of somebody's own kind."""

    def __new__(cls, *_arguments: Any) -> list[Any]:  # type: ignore[misc]
        """Give a plain one, which the reader fills."""
        return []


# Types that trainers keep beside weights. A file that names one gets an `Inert` or an empty dictionary or list in its
# place: nothing of the type itself is imported, called or looked up, so that none of these can run code.
INERT = (
    "argparse.Namespace",  # arguments of timm, torchvision's references, DeiT, DINO
    "types.SimpleNamespace",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    "numpy.dtype",  # with the three above: a metric that numpy computed
    "numpy.ndarray",
    *(f"pathlib.{where}{kind}Path" for where in ("", "_local.") for kind in ("", "Posix", "Windows", "PurePosix")),
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
    """Read the tensors of a `.safetensors`, or of a weights-only `.pth`, `.pt`, `.ckpt` or `.bin`; never runs code.

    Returns:
        Each table of tensors that is in it, by the names that lead there (`state_dict`, `ema.model`); the file's own
        is `""`. What is no tensor, or has a name that is no text, is left out.

    Raises:
        ModelFileError: If the file is absent, damaged, of another kind, holds code, or no tensors, or claims to be
            larger than it is.
    """
    if not file.is_file():
        raise ModelFileError(f"no weights file {file}", "give the path of a .safetensors or .pth file")
    with file.open("rb") as stream:
        start = stream.read(9)
    if start == POINTER:
        text = f"{file} is a pointer of Git LFS, not the file that it stands for"
        raise ModelFileError(text, "fetch that with `git lfs pull`", code="E403")
    pickled = start.startswith((ZIP, PICKLE))
    by_content = pickled or start[8:] == b"{"
    safe = not pickled if by_content else file.suffix == ".safetensors"
    tables = {"": _read_safetensors(file)} if safe else dict(_tables(_read_torch(file, start)))
    if not tables:
        raise ModelFileError(f"{file} holds no table of tensors", "save the network's state_dict()", code="E402")
    _check_sizes(tables, file)
    return tables


def some(names: list[str], most: int = 5) -> str:
    """Give the first few names as text."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


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
        text = f"{file} is not a complete weights file: it does not begin like one"
        raise ModelFileError(text, "give a .safetensors file, or what torch.save wrote", code="E403")
    _check_zip(file, start)
    try:
        # A stream: by its name torch would take a file for another kind.
        with catch_warnings(), torch.serialization.safe_globals(_stand_ins()), file.open("rb") as stream:
            simplefilter("ignore")
            return torch.load(stream, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise anything
        if out_of_memory(error) and asked_for(error) <= file.stat().st_size + EXCESS:
            raise  # the machine is short of it; what a damaged file says of its sizes is not
        if isinstance(error, UnpicklingError) or "TorchScript" in str(error):
            raise _code(file) from error
        why = str(error).partition("\n")[0]
        raise ModelFileError(f"{file} is not a complete weights file: {why}", code="E403") from error


def _stand_ins() -> list[Any]:
    kinds: dict[type, tuple[str, ...]] = {Inert: INERT, EmptyTable: TABLES, EmptyList: LISTS}
    return [(stand_in, name) for stand_in, names in kinds.items() for name in names]


def _check_zip(file: Path, start: bytes) -> None:
    """Refuse an archive whose members, unpacked, are larger than the file: torch itself packs none."""
    if not start.startswith(ZIP):
        return
    try:
        with ZipFile(file) as archive:
            size = sum(member.file_size for member in archive.infolist())
    except (BadZipFile, ValueError, NotImplementedError, OSError) as error:
        raise ModelFileError(f"{file} is not a complete weights file: {error}", code="E403") from error
    if size > file.stat().st_size:
        text = f"{file} of {file.stat().st_size:,} bytes unpacks to {size:,}"
        raise ModelFileError(text, "save its state_dict() with torch.save, which packs nothing", code="E408")


def _code(file: Path) -> ModelFileError:
    """Refuse a file that needs more than tensors, with the names that it would import."""
    try:
        needed = sorted(set(torch.serialization.get_unsafe_globals_in_checkpoint(file)) - {*INERT, *TABLES, *LISTS})
    except Exception:  # a pickle that torch cannot list: the refusal is what matters
        needed = []
    text = f"{file} holds code, not only tensors: refused" + (f" (it would run {some(needed)})" if needed else "")
    hint = "save its state_dict() with safetensors where you trust it"
    if needed and all(name.startswith("torch.distributed") for name in needed):
        hint = "it is one part of sharded training: save the full state_dict() of the network"
    return ModelFileError(text, hint, code="E401")


def _tables(raw: Any) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Find the tables of tensors in nested containers, which may hold each other or themselves, the outer first."""
    seen: set[int] = set()
    queue = deque([("", 0, raw)])
    while queue and len(seen) < MOST_NODES:
        path, depth, node = queue.popleft()
        if id(node) in seen or depth > MOST_DEPTH:
            continue
        seen.add(id(node))
        entries = dict(_entries(node))
        tensors = {name: value for name, value in entries.items() if isinstance(value, Tensor)}
        for tensor in tensors.values():
            vars(tensor).clear()  # what a file hangs on a tensor hides its methods
        if tensors := {name: tensor for name, tensor in tensors.items() if not tensor.is_nested}:  # one has no shape
            yield path, tensors
        queue.extend((f"{path}.{name}".lstrip("."), depth + 1, inner) for name, inner in entries.items())


def _entries(node: Any) -> Iterator[tuple[str, Any]]:
    """Give what a container holds, by name; of a list, by place."""
    if isinstance(node, list | tuple):
        node = {str(place): value for place, value in enumerate(node)}
    if isinstance(node, Mapping):
        yield from ((name, value) for name, value in node.items() if isinstance(name, str))


def _check_sizes(tables: Tables, file: Path) -> None:
    most = file.stat().st_size + EXCESS
    for name, tensor in ((name, tensor) for table in tables.values() for name, tensor in table.items()):
        if tensor.numel() * tensor.element_size() > most and not tensor.is_meta:
            text = f"{file} of {file.stat().st_size:,} bytes says that {name} has {tensor.numel():,} numbers"
            raise ModelFileError(text, "get an intact copy", code="E408")
