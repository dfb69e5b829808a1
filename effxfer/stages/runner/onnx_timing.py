"""Time networks on this machine: they are exported as float32 ONNX and timed in turns with the dense one."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

from torch import Tensor, nn

from effxfer.benchmark.protocol.latency import compare, onnx_runner
from effxfer.benchmark.protocol.runners import feed_for
from effxfer.deploy.export.few_shot.prototypes import exported_module
from effxfer.deploy.export.module import write_module
from effxfer.deploy.export.onnx import export_onnx
from effxfer.deploy.export.text_samples import length_metadata
from effxfer.net.net import Net
from effxfer.process.scratch import scratch_folder
from effxfer.prune.channels.latency_loop import PairedTiming
from effxfer.prune.network import example_of
from effxfer.runtime.rows import Rows

# Between `bench` (1 %) and the head search (2 %): finer than the 5 % within which a latency target counts as met.
PRECISION = 0.015
# For two files. Chosen, not measured: a target is timed up to five times (latency_loop), a control's size six times.
MAX_SECONDS = 15.0
# As `compare`: a narrow interval of the first second may be of one frequency of the CPU.
MIN_SECONDS = 2.0
DENSE, PRUNED = "dense", "pruned"


@contextmanager
def stopwatch(
    dense: nn.Module, threads: int, seed: int, example: Tensor | None = None, rows: Rows | None = None
) -> Iterator[Callable[[nn.Module], PairedTiming]]:
    """Yield a function that exports a network and times it in turns with the dense one.

    Args:
        dense: Baseline of the latency ratios.
        threads: Threads of ONNX Runtime, at least 1.
        seed: Random seed of the timing order.
        example: Input of the networks `(B, ...)`; a `Net` needs none.
        rows: Of the validation split: a `Net` of texts is timed at their median length.
    """
    with scratch_folder() as folder:
        base = export_plain(dense, folder / f"{DENSE}.onnx", example, rows)

        def time(network: nn.Module) -> PairedTiming:
            file = export_plain(network, folder / f"{PRUNED}.onnx", example, rows)
            return time_in_turns({DENSE: base, PRUNED: file}, threads, seed)[PRUNED]

        yield time


def time_in_turns(files: Mapping[str, Path], threads: int, seed: int) -> dict[str, PairedTiming]:
    """Time exported networks in turns, each at its own input size; the first one is the dense network."""
    runners = {name: onnx_runner(file, feed_for(file, seed=seed), threads) for name, file in files.items()}
    timings = compare(
        runners, baseline=next(iter(files)), threads=threads, precision=PRECISION, min_seconds=MIN_SECONDS,
        max_seconds=MAX_SECONDS * len(files) / 2, seed=seed,
    )  # fmt: skip
    return {
        timing.name: PairedTiming(
            ratio=timing.ratio, low=timing.ratio_low, high=timing.ratio_high, ms=timing.p50, dense_ms=timings[0].p50,
            n=timing.rounds,
        )
        for timing in timings
    }  # fmt: skip


def export_plain(network: nn.Module, file: Path, example: Tensor | None = None, rows: Rows | None = None) -> Path:
    """Export a network on any device to a float32 ONNX file for timing; the network is unchanged.

    See `stopwatch` for the arguments.
    """
    copy = deepcopy(network).cpu().eval()
    if isinstance(copy, Net):
        extra = length_metadata(rows)
        # Of outputs per position, a file has a shape of its own.
        of_tokens = copy.output.per == "position"
        module, output = (exported_module(copy)[0], copy.output) if of_tokens else (copy, None)
        return export_onnx(
            module, file, input=copy.input, classes=copy.classes, output=output, key="latency", extra=extra
        )
    return write_module(copy, file, example_of(copy, example))


@contextmanager
def time_with(
    clock: Callable[[nn.Module], float], dense: nn.Module
) -> Iterator[Callable[[nn.Module], PairedTiming]]:  # fmt: skip
    """Yield a function that times a network by the caller's `clock`, which returns milliseconds."""
    dense_ms = clock(dense)

    def time(network: nn.Module) -> PairedTiming:
        ms = clock(network)
        return PairedTiming(ratio=ms / dense_ms, low=ms / dense_ms, high=ms / dense_ms, ms=ms, dense_ms=dense_ms, n=1)

    yield time
