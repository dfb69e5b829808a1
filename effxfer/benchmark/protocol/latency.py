"""Latency of models against a baseline: short alternating blocks, one session alive at a time.

Idle thread pools of sessions kept side by side spin and falsify each other, so every block opens its session,
warms it up, times it and closes it. Neighbours, clock speed and temperature drift over seconds, so the models
alternate in shuffled and then mirrored order, and each is divided by the baseline's block of the same round.

On a shared machine most of the noise is waiting for a core that another program has. A single thread never waits for
anything else, so with one thread the ratio is that of processor time: measured on 2 busy cores, the interval of a model
against itself was 5 to 15 times narrower than that of wall-clock time.
"""

import gc
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effxfer.benchmark.protocol.runners import onnx_runner, torch_runner
from effxfer.errors import SettingsError, did_you_mean
from effxfer.process.timing_lock import exclusive_timing
from effxfer.progress import bar

__all__ = ["Timing", "compare", "noise_floor", "onnx_runner", "ratio_interval", "torch_runner"]

Run = Callable[[], object]
Factory = Callable[[], Run]

# Calls. Measured: alternating blocks of 20 with one session alive gave 6.6 ms where sessions side by side gave 14.9.
BLOCK = 20
WARMUP = 5  # calls; chosen: the first ones of a session allocate its arena and pack weights
# 2 %: as far as a model differed from itself on a quiet machine at worst; the stage asks for 1 %.
PRECISION = 0.02
# Chosen: a narrow interval of the first second may be of one frequency of the CPU; a minute is what one waits for.
MIN_SECONDS, MAX_SECONDS = 2.0, 60.0
# The range of n ratios holds the true median with a chance of 1 - 2^(1 - n): 87 % for 4, 94 % for 5.
MIN_ROUNDS = 5
MIN_CALLS = 3  # of a block: a median that one interruption does not move
# Chosen: ends of the interval move by a few percent of its width between seeds.
RESAMPLES = 1000


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Timing of one call of a model, in milliseconds of wall clock.

    Attributes:
        name: The model.
        p50: Median over all timed calls.
        p95: 95th percentile over all timed calls.
        p99: 99th percentile over all timed calls; with fewer than 100 calls it is near the slowest one.
        mean: Mean over all timed calls, from which throughput is computed.
        ratio: Median over rounds of this model's block median divided by the baseline's of the same round;
            1 for the baseline itself. With one thread it is that of processor time, else of wall clock. Drift that
            hits a whole round cancels, so it may differ from `p50 / p50`.
        ratio_low: Lower end of the 95 % bootstrap interval of `ratio`, rounds resampled.
        ratio_high: Upper end.
        n: Timed calls.
        rounds: Number of blocks.
        threads: Threads of each session.
        first_ms: Time of the first call in a new session, median over rounds.
        load_ms: Time to open the session, median over rounds.
    """

    name: str
    p50: float
    p95: float
    p99: float
    mean: float
    ratio: float
    ratio_low: float
    ratio_high: float
    n: int
    rounds: int
    threads: int
    first_ms: float
    load_ms: float


@dataclass(kw_only=True)
class _Record:
    """Measurements of one model, in milliseconds; one entry per round."""

    blocks: list[NDArray[np.float64]] = field(default_factory=list)
    compared: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    load: list[float] = field(default_factory=list)

    def medians(self) -> NDArray[np.float64]:
        return np.array(self.compared)


@exclusive_timing()
def compare(
    runners: Mapping[str, Factory],
    *,
    baseline: str,
    threads: int = 1,
    block: int = BLOCK,
    warmup: int = WARMUP,
    precision: float = PRECISION,
    min_seconds: float = MIN_SECONDS,
    max_seconds: float = MAX_SECONDS,
    seed: int = 0,
) -> list[Timing]:
    """Time models against each other.

    Args:
        runners: By name, a function that opens a session and returns the call to time, which takes no arguments.
            If the call has a `close` method, it is called at the end of a block.
        baseline: The name that ratios refer to.
        threads: Threads of the runners; with 1, processor time is compared instead of wall-clock time.
        block: Timed calls per block, at least 3.
        warmup: Calls dropped at the start of each block, at least 1 (the first is recorded as `first_ms`).
        precision: Stop once every 95 % interval of a ratio is at most this share of the ratio to either side.
        min_seconds: Minimum duration.
        max_seconds: Stop after the round in which this is reached. Slow models get shorter blocks, so that five rounds
            fit.
        seed: Seed of the order within rounds and of the bootstrap.

    Returns:
        One timing per runner, in the order of `runners`.

    Raises:
        SettingsError: If the baseline is not among the runners, or a number is out of range.
    """
    _check(runners, baseline, block, warmup, max_seconds)
    records = {name: _Record() for name in runners}
    order, shuffle = list(runners), random.Random(seed)
    # Five rounds must fit, however slow a model is.
    share = max_seconds / (len(runners) * MIN_ROUNDS)
    # Before the clock starts: what is left from exporting would be collected in somebody's block.
    gc.collect()
    begun, elapsed, width = time.perf_counter(), 0.0, float("inf")
    with bar("timing", math.ceil(max_seconds)) as advance:
        while not _is_finished(len(records[baseline].blocks), elapsed, width, precision, (min_seconds, max_seconds)):
            _next_order(order, len(records[baseline].blocks), shuffle)
            for name in order:
                _time_block(runners[name], records[name], block, warmup, share, threads)
            before, elapsed = elapsed, time.perf_counter() - begun
            width = _widest_interval(records, baseline, seed)
            advance(int(elapsed) - int(before), f"ratios known to ±{width:.1%}")
    return [_timing(name, record, records[baseline], threads, seed) for name, record in records.items()]


def noise_floor(runner: Factory, **protocol: Any) -> Timing:
    """Time a model against itself, in the protocol of `compare`.

    Args:
        runner: A runner of `compare`.
        protocol: Passed on to `compare`.

    Returns:
        The timing of the second of the two equal models; `abs(ratio - 1)` is the noise of this machine at the moment.
    """
    return compare({"itself": runner, "again": runner}, baseline="itself", **protocol)[1]


def ratio_interval(ours: NDArray[np.float64], base: NDArray[np.float64], seed: int = 0) -> tuple[float, float, float]:
    """Return the median of paired ratios and its 95 % percentile bootstrap interval.

    Args:
        ours: `(R,)` block medians of a model, one per round.
        base: `(R,)` block medians of the baseline in the same rounds.
        seed: Seed of the resampling.
    """
    ratios = ours / base
    # Rounds are resampled, not calls: calls of a block share whatever disturbed it.
    picks = np.random.default_rng(seed).integers(0, len(ratios), (RESAMPLES, len(ratios)))
    low, high = np.percentile(np.median(ratios[picks], axis=1), [2.5, 97.5])
    return float(np.median(ratios)), float(low), float(high)


def _check(runners: Mapping[str, Factory], baseline: str, block: int, warmup: int, max_seconds: float) -> None:
    if baseline not in runners:
        names = ", ".join(runners) or "none"
        raise SettingsError(
            f"no model {baseline!r} to compare with{did_you_mean(baseline, runners)}", f"models: {names}"
        )
    if block < MIN_CALLS or warmup < 1 or max_seconds <= 0:
        raise SettingsError(
            f"block={block}, warmup={warmup}, max_seconds={max_seconds} cannot be timed",
            f"block is at least {MIN_CALLS}, warmup at least 1, max_seconds above 0",
        )


def _next_order(order: list[str], rounds: int, shuffle: random.Random) -> None:
    """Shuffle the order, and reverse it in the next round, so that a steady drift favours no model."""
    if rounds % 2:
        order.reverse()
    else:
        shuffle.shuffle(order)


def _is_finished(rounds: int, elapsed: float, width: float, precision: float, seconds: tuple[float, float]) -> bool:
    if rounds == 0:
        return False
    return elapsed >= seconds[1] or (rounds >= MIN_ROUNDS and elapsed >= seconds[0] and width <= precision)


def _time_block(factory: Factory, record: _Record, block: int, warmup: int, share: float, threads: int) -> None:
    deadline = time.perf_counter_ns() + int(share * 1e9)
    with _open_run(factory, record) as run:
        record.first.append(_milliseconds(run)[0])
        for _ in range(warmup - 1):
            run()
        times: list[tuple[float, float]] = []
        # Python's collector would stop one call in hundreds for milliseconds.
        with _no_collection():
            while len(times) < block and (len(times) < MIN_CALLS or time.perf_counter_ns() < deadline):
                times.append(_milliseconds(run))
    wall, busy = np.array(times).T
    record.blocks.append(wall)
    # The smaller one: the processor's clock counts in ticks on some systems, and can exceed the wall's.
    record.compared.append(float(np.median(np.minimum(wall, busy) if threads == 1 else wall)))


@contextmanager
def _open_run(factory: Factory, record: _Record) -> Iterator[Run]:
    begun = time.perf_counter_ns()
    run = factory()
    record.load.append((time.perf_counter_ns() - begun) / 1e6)
    try:
        yield run
    finally:
        close = getattr(run, "close", None)
        if close:
            close()


@contextmanager
def _no_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _milliseconds(run: Run) -> tuple[float, float]:
    """Return the wall-clock time and the processor time of a call, in milliseconds."""
    begun, busy = time.perf_counter_ns(), time.process_time_ns()
    run()
    busy = time.process_time_ns() - busy
    return (time.perf_counter_ns() - begun) / 1e6, busy / 1e6


def _widest_interval(records: Mapping[str, _Record], baseline: str, seed: int) -> float:
    base = records[baseline].medians()
    widths = []
    for name, record in records.items():
        if name != baseline:
            ratio, low, high = ratio_interval(record.medians(), base, seed)
            # The farther end: intervals of few rounds are lopsided.
            widths.append(max(high - ratio, ratio - low) / ratio)
    return max(widths, default=0.0)


def _timing(name: str, record: _Record, base: _Record, threads: int, seed: int) -> Timing:
    calls = np.concatenate(record.blocks)
    p50, p95, p99 = (float(p) for p in np.percentile(calls, [50, 95, 99]))
    ratio, low, high = ratio_interval(record.medians(), base.medians(), seed)
    return Timing(
        name=name,
        p50=p50,
        p95=p95,
        p99=p99,
        mean=float(calls.mean()),
        ratio=ratio,
        ratio_low=low,
        ratio_high=high,
        n=len(calls),
        rounds=len(record.blocks),
        threads=threads,
        first_ms=float(np.median(record.first)),
        load_ms=float(np.median(record.load)),
    )
