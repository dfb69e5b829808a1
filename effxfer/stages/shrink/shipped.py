"""Write, time and score networks at the precision that ships: float32, or int8 by one fast recipe."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effxfer.benchmark.protocol.latency import compare
from effxfer.benchmark.protocol.runners import feed_for
from effxfer.benchmark.runtimes.registry import runner_in
from effxfer.data.task import Task
from effxfer.deploy.cpu.targets import ANY, host_target
from effxfer.deploy.export.logits import onnx_logits
from effxfer.deploy.int8.builder import CandidateBuilder, feeds_of
from effxfer.deploy.int8.recipes import DEFAULT, RECIPES
from effxfer.deploy.int8.target_policy import TargetPolicy
from effxfer.errors import ModelFileError
from effxfer.net.net import Net
from effxfer.process.scratch import scratch_folder
from effxfer.prune.channels.latency_loop import PairedTiming
from effxfer.runtime.threads import usable_cores
from effxfer.stages.runner.onnx_timing import DENSE, MIN_SECONDS, PRECISION, export_plain
from effxfer.stages.settings.shrink_settings import Shrink
from effxfer.train.devices import Device
from effxfer.train.evaluate import predict

# Values decide no latency, so that ranges of a few random images do for it.
RANDOM_IMAGES = 4
# Chosen: the 30 % of a time limit that are for building then hold 36 timings, up to six of a candidate.
MEASUREMENTS = 120


@dataclass(frozen=True, kw_only=True)
class Shipping:
    """How candidates are shipped.

    Attributes:
        int8: Whether the int8 file ships, else the float32 one.
        settings: Settings of the stage.
    """

    int8: bool
    settings: Shrink

    @property
    def precision(self) -> str:
        """The precision, in the words of the settings."""
        return "int8" if self.int8 else "float32"

    @property
    def threads(self) -> int:
        """Threads of the runtime."""
        return self.settings.threads or usable_cores()

    def write(self, net: Net, folder: Path, name: str, rows: NDArray[np.uint8] | None = None) -> Path:
        """Write the file of a network that ships.

        Args:
            net: On any device; unchanged.
            folder: Scratch folder.
            name: Name of the file, without suffix.
            rows: Training images uint8 `(K, S, S, 3)` on which activation ranges are measured; None for a file whose
                latency alone counts.

        Raises:
            ModelFileError: If the network cannot be exported or quantized.
        """
        fp32 = export_plain(net, folder / f"{name}.onnx")
        if not self.int8:
            return fp32
        timed_only = rows is None
        side = net.input.size
        images = (
            np.random.default_rng(0).integers(0, 256, (RANDOM_IMAGES, side, side, 3), np.uint8)
            if rows is None
            else rows
        )
        feeds = feeds_of(fp32, images).subset(self.settings.calibration, self.settings.seed)
        scratch = folder / f"{name}-int8"
        scratch.mkdir()
        # No policy of a target: candidates are compared on this machine, and `export` applies it.
        builder = CandidateBuilder(fp32, scratch, feeds, TargetPolicy(ANY))
        recipe = fast_recipe(builder)
        result = builder.candidate(recipe, replace(RECIPES[recipe], correct=RECIPES[recipe].correct and not timed_only))
        if result.verdict:
            raise ModelFileError(f"int8 recipe {recipe}: {result.verdict}")
        return result.file

    def outputs(self, net: Net, task: Task, device: Device) -> NDArray[np.float32]:
        """Return the outputs `(N, C)` on the validation split of the file that ships."""
        if not self.int8:
            return predict(net, task.val.rows, net.input, device).numpy()
        with scratch_folder() as folder:
            file = self.write(net, folder, "scored", task.train.rows)
            return onnx_logits(file, task.val.rows, threads=self.threads, runtime=self.settings.runtime)


def fast_recipe(builder: CandidateBuilder) -> str:
    """Return the first recipe for a network's operators with kernels on this machine that do not saturate."""
    host = host_target()
    names = [name for name in builder.suitable_recipes(DEFAULT) if not host.exclusion_reason(RECIPES[name])]
    exact = [name for name in names if host.loss == "none" or RECIPES[name].reduce_range]
    return (exact or names or list(builder.suitable_recipes(DEFAULT)))[0]


def timing_limit(settings: Shrink) -> float:
    """Return the time limit of one measurement in seconds."""
    if settings.seconds is None:
        return settings.timing_seconds
    return min(settings.timing_seconds, settings.seconds / MEASUREMENTS)


Clock = Callable[[Net, Shipping], PairedTiming]


@contextmanager
def shipping_clock(dense: Net, settings: Shrink) -> Iterator[Clock]:
    """Yield a function that times the file of a network at a precision, in turns with a network's float32 file."""
    limit = timing_limit(settings)
    with scratch_folder() as folder:
        base = export_plain(dense, folder / "dense.onnx")

        def time(net: Net, shipping: Shipping) -> PairedTiming:
            with scratch_folder() as scratch:
                files: dict[str, Any] = {DENSE: base, "candidate": shipping.write(net, scratch, "timed")}
                runner = runner_in(settings.runtime)
                runners = {n: runner(f, feed_for(f, seed=settings.seed), shipping.threads) for n, f in files.items()}
                first, timed = compare(
                    runners, baseline=DENSE, threads=shipping.threads, precision=PRECISION,
                    min_seconds=min(MIN_SECONDS, limit), max_seconds=limit, seed=settings.seed,
                )  # fmt: skip
            return PairedTiming(
                ratio=timed.ratio, low=timed.ratio_low, high=timed.ratio_high, ms=timed.p50, dense_ms=first.p50,
                n=timed.rounds,
            )  # fmt: skip

        yield time
