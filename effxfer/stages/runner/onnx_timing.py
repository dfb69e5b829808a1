"""Measure networks as exported ONNX files on this machine, in turns."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

from effxfer.benchmark.protocol.latency import compare, onnx_runner
from effxfer.benchmark.protocol.runners import feed_for
from effxfer.deploy.export.onnx import export_onnx
from effxfer.net.net import Net
from effxfer.process.scratch import scratch_folder
from effxfer.prune.channels.latency_loop import Timing

PRECISION = 0.015
MAX_SECONDS = 15.0
MIN_SECONDS = 2.0
DENSE, PRUNED = "dense", "pruned"


@contextmanager
def stopwatch(dense: Net, threads: int, seed: int) -> Iterator[Callable[[Net], Timing]]:
    """Give a function that exports a network and times it in turns with the dense one."""
    with scratch_folder() as folder:
        base = exported(dense, folder / f"{DENSE}.onnx")

        def time(net: Net) -> Timing:
            file = exported(net, folder / f"{PRUNED}.onnx")
            return in_turns({DENSE: base, PRUNED: file}, threads, seed)[PRUNED]

        yield time


def in_turns(files: Mapping[str, Path], threads: int, seed: int) -> dict[str, Timing]:
    """Time exported networks in turns, each with input of its own side; the first one is the dense network."""
    runners = {name: onnx_runner(file, feed_for(file, seed=seed), threads) for name, file in files.items()}
    found = compare(
        runners, baseline=next(iter(files)), threads=threads, precision=PRECISION, min_seconds=MIN_SECONDS,
        max_seconds=MAX_SECONDS * len(files) / 2, seed=seed,
    )  # fmt: skip
    return {
        one.name: Timing(
            ratio=one.ratio, low=one.ratio_low, high=one.ratio_high, ms=one.p50, dense_ms=found[0].p50, n=one.rounds
        )
        for one in found
    }


def exported(net: Net, file: Path) -> Path:
    """Write a network as float32 ONNX, whatever device it is on; it is not changed."""
    still = deepcopy(net).cpu().eval()
    return export_onnx(still, file, preprocess=net.preprocess, classes=net.classes, key="latency")
