"""Functions about adapters in files: read, and put on their network.

`help(effxfer.api)` describes the arguments that all of them take.
"""

from collections.abc import Mapping
from typing import Any

from effxfer.api.job import run_stage
from effxfer.api.result import LoadedAdapter, Result
from effxfer.api.sources import Data, Network, PathLike, network_of, path_of, table_of
from effxfer.stages.runner.source import Adapted, read_adapter


def load_adapter(adapter: PathLike | Result) -> LoadedAdapter:
    """Read an adapter: its size, classes, base network and training recipe.

    Args:
        adapter: An `adapter.safetensors`, or a model directory that holds one.

    Raises:
        ModelFileError: If there is none, or it is not what was written.
    """
    path = path_of(adapter)
    return LoadedAdapter.of(read_adapter(path), path)


def apply_adapter(
    adapter: PathLike | Result | LoadedAdapter, base: Network, *, out: PathLike, data: Data | None = None,
    merge: bool | None = None, device: str = "auto", force: bool = False, settings: Mapping[str, Any] | None = None,
    **extra: Any,
) -> Result:  # fmt: skip
    """Put an adapter with its head on the network that it was trained on, and measure the result.

    Args:
        adapter: An `adapter.safetensors`, a model directory that holds one, or what `load_adapter` returned.
        base: The network.
        merge: Merge it into the weights; True if None.
    """
    opened = adapter.file if isinstance(adapter, LoadedAdapter) else read_adapter(path_of(adapter))
    return run_stage(
        "adapter", lambda backbone: Adapted(network_of(base, backbone), opened), out=out, data=data,
        settings=table_of(settings, extra, merge=merge), device=device, force=force,
    )  # fmt: skip
