"""Functions for adapters in files: load them, and apply them to their network.

`help(effxfer.api)` describes the arguments that they have in common.
"""

from collections.abc import Mapping
from typing import Any

from effxfer.api.job import run_stage
from effxfer.api.result import LoadedAdapter, Result
from effxfer.api.sources import Data, Network, PathLike, network_of, path_of, table_of
from effxfer.stages.runner.source import AdapterOnBase, read_adapter


def load_adapter(adapter: PathLike | Result) -> LoadedAdapter:
    """Load an adapter, and describe its size, classes, base network and training recipe.

    Args:
        adapter: Path of an `adapter.safetensors`, or a model directory with one.

    Returns:
        The adapter, with a report on it.

    Raises:
        ModelFileError: If there is no adapter, or it is damaged.

    Examples:
        >>> adapter = ex.load_adapter("runs/lora")
        >>> print(adapter.classes, adapter.digest)
    """
    path = path_of(adapter)
    return LoadedAdapter.of(read_adapter(path), path)


def apply_adapter(
    adapter: PathLike | Result | LoadedAdapter, base: Network, *, out: PathLike, data: Data | None = None,
    merge: bool | None = None, device: str = "auto", force: bool = False, settings: Mapping[str, Any] | None = None,
    **extra: Any,
) -> Result:  # fmt: skip
    """Apply an adapter and its head to the network on which it was trained, and evaluate the result.

    The common arguments are described in `effxfer.api`.

    Args:
        adapter: Path of an `adapter.safetensors`, a model directory with one, or what `load_adapter` returned.
        base: The network on which the adapter was trained.
        merge: Whether to merge the adapter into the weights if possible; True if None.

    Returns:
        The model directory with the adapted network.

    Raises:
        ModelFileError: If the adapter is damaged, or belongs to another network.
        DataError: If the classes of data and adapter differ.
        GateError: If merging changes the outputs.

    Examples:
        >>> adapted = ex.apply_adapter("runs/lora", "timm:vit_tiny_patch16_224", data="photos", out="runs/adapted")
    """
    opened = adapter.file if isinstance(adapter, LoadedAdapter) else read_adapter(path_of(adapter))
    return run_stage(
        "adapter", lambda backbone: AdapterOnBase(network_of(base, backbone), opened), out=out, data=data,
        settings=table_of(settings, extra, merge=merge), device=device, force=force,
    )  # fmt: skip
