"""Runtimes other than ONNX Runtime, timed in the same table if their packages are installed.

OpenVINO reads the ONNX files; LiteRT and ExecuTorch need the network, which is converted first.
"""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from effxfer.benchmark.protocol.runners import onnx_runner, open_session
from effxfer.benchmark.runtimes import executorch, litert, openvino
from effxfer.runtime.session import ONNXRUNTIME, OPENVINO

if TYPE_CHECKING:
    import torch

    from effxfer.benchmark.protocol.latency import Factory

NO_RUNTIMES: Mapping[str, str] = {}
Feed = Mapping[str, NDArray[Any]]
ORT_TITLE = "ONNX Runtime"


@dataclass(frozen=True, kw_only=True)
class OtherRuntime:
    """A runtime to time models in.

    Attributes:
        title: Name in tables.
        extra: The extra of effxfer that installs it.
        packages: Packages that must be importable.
        factory: Builds a runner from an ONNX file or a network, a feed and a number of threads; its calls return the
            outputs.
        converts: Whether it takes a network instead of a file.
    """

    title: str
    extra: str
    packages: tuple[str, ...]
    factory: "Callable[[Any, Feed, int], Factory]"
    converts: bool = False


RUNTIMES = {
    "executorch": OtherRuntime(
        title="ExecuTorch", extra="executorch", packages=("executorch",), factory=executorch.runner, converts=True
    ),
    "litert": OtherRuntime(
        title="LiteRT",
        extra="litert",
        packages=("litert_torch", "ai_edge_litert"),
        factory=litert.runner,
        converts=True,
    ),
    "openvino": OtherRuntime(title="OpenVINO", extra="openvino", packages=("openvino",), factory=openvino.runner),
}


def runner_in(runtime: str) -> "Callable[[Path, Feed, int], Factory]":
    """Return what builds a runner from an ONNX file, a feed and a number of threads.

    Args:
        runtime: See `effxfer.runtime.model.Model`.
    """
    return openvino.runner if runtime == OPENVINO else onnx_runner


def runtime_runners(
    models: Mapping[str, Path],
    feeds: Mapping[str, Feed],
    nets: "Mapping[str, Callable[[], torch.nn.Module]]",
    *,
    runtimes: Collection[str],
    threads: int,
    exported_for: Mapping[str, str] = NO_RUNTIMES,
) -> "tuple[dict[str, Factory], list[str]]":
    """Build runners of every model in every requested runtime that is installed and able to run it.

    Args:
        models: ONNX files by name.
        feeds: Input by model name.
        nets: Torch modules, by the name of the model that is the same network.
        runtimes: Keys of `RUNTIMES`.
        threads: Threads of each runner.
        exported_for: Runtimes that models were exported for, by name; they are not timed in these again.

    Returns:
        Runners by `MODEL in RUNTIME`; and notes on omitted runtimes, and on the difference of each runner's outputs
        from ONNX Runtime's.
    """
    foreign = [name for name in models if exported_for.get(name, ONNXRUNTIME) != ONNXRUNTIME]
    runners = {f"{name} in {ORT_TITLE}": onnx_runner(models[name], feeds[name], threads) for name in foreign}
    notes, absent = [], []
    for key in sorted(runtimes):
        runtime = RUNTIMES[key]
        if not is_installed(runtime):
            absent.append(f"{runtime.title} (pip install 'effxfer[{runtime.extra}]')")
            continue
        for name in nets if runtime.converts else models:
            if exported_for.get(name) == key:
                continue
            source = nets[name]() if runtime.converts else models[name]
            title = f"{name} in {runtime.title}"
            try:
                begun = time.perf_counter()
                factory = runtime.factory(source, feeds[name], threads)
                seconds = time.perf_counter() - begun
                # The outputs as well: a runtime that computes something else may well be faster.
                notes.append(f"{title}: prepared in {seconds:.1f} s; {_difference(factory, models[name], feeds[name])}")
                runners[title] = factory
            except Exception as error:  # a converter or kernel that lacks an operator must not end the bench
                notes.append(f"{title} left out: {type(error).__name__}: {_first_line(error)}")
    if absent:
        notes.append(f"not installed, left out: {', '.join(absent)}")
    return runners, notes


def model_name(title: str, models: Collection[str]) -> str:
    """Return the model of a runner: its title, or the part before the name of the runtime.

    >>> model_name("small in OpenVINO", ["small"]), model_name("a in LiteRT", ["a", "a in LiteRT"])
    ('small', 'a in LiteRT')
    """
    return title if title in models else title.rpartition(" in ")[0]


def is_installed(runtime: OtherRuntime) -> bool:
    """Whether all packages of a runtime can be imported."""
    return all(find_spec(package) is not None for package in runtime.packages)


def _difference(factory: "Factory", file: Path, feed: Feed) -> str:
    run = factory()
    try:
        ours = np.asarray(run()[0])  # type: ignore[index]
    finally:
        if close := getattr(run, "close", None):
            close()
    theirs = np.asarray(open_session(file, 1).run(None, dict(feed))[0])
    if ours.shape != theirs.shape:
        raise ValueError(f"its output has the shape {ours.shape}, ONNX Runtime's {theirs.shape}")
    scale = max(float(np.abs(theirs).max()), 1e-9)
    return f"outputs differ from ONNX Runtime's by up to {100 * float(np.abs(ours - theirs).max()) / scale:.2g} %"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0][:200]
