"""Runs the search for mixed precision on files: quantized by blocks, timed, and compared on training images."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from effxfer.deploy.export.onnx import load
from effxfer.deploy.export.parity import onnx_logits
from effxfer.deploy.int8.builder import Maker
from effxfer.deploy.int8.evaluation import FP32, Judge, Trial
from effxfer.deploy.int8.mixed_precision import Chosen, Measured, Search
from effxfer.deploy.int8.partitions import blocks
from effxfer.deploy.int8.static import Feeds
from effxfer.deploy.settings import RECIPES

MIXED, LOOKS, ERROR_IMAGES = "mixed", 6, 64


@dataclass(frozen=True, kw_only=True)
class Clock:
    """How candidates are timed.

    Attributes:
        one: An image.
        threads: Of ONNX Runtime.
        compare: Times runners; None is `effxfer.benchmark.protocol.latency.compare`.
    """

    one: Feeds
    threads: int
    compare: Callable[..., Sequence[Any]] | None

    def __call__(self, dense: Trial, trials: Collection[Trial], seconds: float) -> dict[str, Any]:
        """Time candidates against the float file; give timings by name."""
        from effxfer.benchmark.protocol import latency

        feed = self.one.feed(0, 1)
        runners = {t.name: latency.onnx_runner(t.file, feed, self.threads) for t in (dense, *trials)}
        compare = self.compare or latency.compare
        found = compare(runners, baseline=FP32, threads=self.threads, max_seconds=seconds)
        return {timing.name: timing for timing in found}


def mix(maker: Maker, judge: Judge, trials: Sequence[Trial], clock: Clock, seconds: float) -> tuple[Trial | None, str]:
    """Find which blocks to quantize.

    Args:
        maker: Makes the candidates.
        judge: Says whether one is accurate enough, on part of the validation split.
        trials: What was tried before; the most accurate static recipe among them is mixed with float32.
        clock: Times.
        seconds: For all timing together, about.

    Returns:
        A candidate that is still to be timed and measured as any other, or None; and what was found, in words.
    """
    base = _base(trials)
    if base is None:
        return None, "precisions were not mixed: no static recipe could be run"
    files = _Files(maker, judge, base, clock, seconds / LOOKS)
    search = Search(count=len(files.parts), measure=files.measure, fits=files.fits)
    chosen = search.run()
    what = f"mixed precision by {base} over {len(files.parts)} blocks, {len(search.known)} choices measured"
    if chosen is None:
        return None, f"{what}: {search.why}"
    left = ", ".join(str(i + 1) for i in range(len(files.parts)) if i not in chosen) or "none"
    return files.made(chosen), f"{what}; in float32: block {left}"


class _Files:
    """Choices of blocks as files."""

    def __init__(self, maker: Maker, judge: Judge, base: str, clock: Clock, seconds: float) -> None:
        self.maker, self.judge, self.base, self.clock, self.seconds = maker, judge, base, clock, seconds
        self.parts = blocks(load(maker.prepared).graph)
        self.feeds = maker.feeds.some(ERROR_IMAGES)
        self.trials: dict[Chosen, Trial] = {}
        self.exact = self._logits(judge.dense)

    def made(self, chosen: Chosen) -> Trial:
        """Give the candidate with only these blocks in int8."""
        if chosen not in self.trials:
            left = {name for i, part in enumerate(self.parts) if i not in chosen for name in part}
            name = f"{MIXED}-{'-'.join(str(i + 1) for i in sorted(chosen))}"
            self.trials[chosen] = self.maker.candidate(name, RECIPES[self.base], left)
        return self.trials[chosen]

    def measure(self, choices: Sequence[Chosen]) -> Mapping[Chosen, Measured]:
        """Time choices side by side; one that cannot be made, or is vetoed, takes for ever."""
        good = {choice: self.made(choice) for choice in choices if not self.made(choice).verdict}
        timings = self.clock(self.judge.dense, good.values(), self.seconds) if good else {}
        found = {choice: Measured(ratio=float("inf"), spread=0.0, error=float("inf")) for choice in choices}
        for choice, trial in good.items():
            timing = timings[trial.name]
            spread = (timing.ratio_high - timing.ratio_low) / 2
            found[choice] = Measured(ratio=timing.ratio, spread=spread, error=self.error(trial))
        return found

    def fits(self, chosen: Chosen) -> bool:
        """Say if a choice is accurate enough, as far as part of the validation split can tell."""
        return not self.judge.screen(self.made(chosen)).verdict

    def error(self, trial: Trial) -> float:
        """Root mean square difference of logits on training images, as a share of the logits'."""
        exact = self.exact
        return float(np.sqrt(np.square(self._logits(trial) - exact).mean() / max(np.square(exact).mean(), 1e-12)))

    def _logits(self, trial: Trial) -> Any:
        return onnx_logits(trial.file, self.feeds.pixels, threads=self.clock.threads)


def _base(trials: Sequence[Trial]) -> str | None:
    """Name the static recipe that lost least accuracy."""
    run = [t for t in trials if t.drop is not None and t.name in RECIPES and RECIPES[t.name].kind == "static"]
    best = min(run, key=lambda t: t.drop if t.drop is not None else 0.0, default=None)
    return best.name if best else None
