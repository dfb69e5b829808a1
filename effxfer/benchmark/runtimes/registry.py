"""Other runtimes beside ONNX Runtime, timed in the same table where their packages are installed.

OpenVINO reads the ONNX files themselves; LiteRT and ExecuTorch need the network, which is converted for them first.
"""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from effxfer.benchmark.protocol.runners import open_session
from effxfer.benchmark.runtimes import executorch, litert, openvino

if TYPE_CHECKING:
    import torch

    from effxfer.benchmark.protocol.latency import Factory

Feed = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Other:
    """One runtime.

    Attributes:
        title: How tables call it.
        extra: The extra of effxfer that brings it.
        packages: What must be importable.
        factory: Makes a runner of an ONNX file, or of a network, a feed and a number of threads; its calls give the
            outputs, the first one first.
        converts: Whether it takes a network.
    """

    title: str
    extra: str
    packages: tuple[str, ...]
    factory: "Callable[[Any, Feed, int], Factory]"
    converts: bool = False


OTHERS = {
    "executorch": Other(
        title="ExecuTorch", extra="executorch", packages=("executorch",), factory=executorch.runner, converts=True
    ),
    "litert": Other(
        title="LiteRT",
        extra="litert",
        packages=("litert_torch", "ai_edge_litert"),
        factory=litert.runner,
        converts=True,
    ),
    "openvino": Other(title="OpenVINO", extra="openvino", packages=("openvino",), factory=openvino.runner),
}


def other_runners(
    models: Mapping[str, Path],
    feeds: Mapping[str, Feed],
    nets: "Mapping[str, Callable[[], torch.nn.Module]]",
    *,
    wanted: Collection[str],
    threads: int,
) -> "tuple[dict[str, Factory], list[str]]":
    """Make runners of every model in every runtime that is wanted, installed and able to run it.

    Args:
        models: ONNX files by name.
        feeds: Input by model name.
        nets: Torch modules, by the name of the model that is the same network.
        wanted: Keys of `OTHERS`.
        threads: Threads of each.

    Returns:
        Runners by `MODEL in RUNTIME`; and notes on what is left out and why, and how far the answers of each runner
        are from ONNX Runtime's.
    """
    runners: dict[str, Factory] = {}
    notes, absent = [], []
    for key in sorted(wanted):
        other = OTHERS[key]
        if not installed(other):
            absent.append(f"{other.title} (pip install 'effxfer[{other.extra}]')")
            continue
        for name in nets if other.converts else models:
            source = nets[name]() if other.converts else models[name]
            title = f"{name} in {other.title}"
            try:
                begun = time.perf_counter()
                factory = other.factory(source, feeds[name], threads)
                took = time.perf_counter() - begun
                notes.append(f"{title}: made ready in {took:.1f} s; {_difference(factory, models[name], feeds[name])}")
                runners[title] = factory
            except Exception as error:  # a converter or kernel that lacks an operator must not end the bench
                notes.append(f"{title} left out: {type(error).__name__}: {_first_line(error)}")
    if absent:
        notes.append(f"not installed, left out: {', '.join(absent)}")
    return runners, notes


def model_of(title: str, models: Collection[str]) -> str:
    """Give the model that a runner runs: its own title, or what stands before the name of the runtime.

    >>> model_of("small in OpenVINO", ["small"]), model_of("a in LiteRT", ["a", "a in LiteRT"])
    ('small', 'a in LiteRT')
    """
    return title if title in models else title.rpartition(" in ")[0]


def installed(other: Other) -> bool:
    """Whether all packages of a runtime can be imported."""
    return all(find_spec(package) is not None for package in other.packages)


def _difference(factory: "Factory", file: Path, feed: Feed) -> str:
    run = factory()
    try:
        ours = np.asarray(run()[0])  # type: ignore[index]
    finally:
        if close := getattr(run, "close", None):
            close()
    theirs = np.asarray(open_session(file, 1).run(None, dict(feed))[0])
    if ours.shape != theirs.shape:
        raise ValueError(f"it gives {ours.shape}, ONNX Runtime {theirs.shape}")
    scale = max(float(np.abs(theirs).max()), 1e-9)
    return f"outputs differ from ONNX Runtime's by up to {100 * float(np.abs(ours - theirs).max()) / scale:.2g} %"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0][:200]
