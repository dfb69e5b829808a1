"""Ask a model of the latency, measure what it gave, correct the model, and ask again: no disk, no clock of its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from effxfer.errors import GateError, SettingsError
from effxfer.prune.channels.knapsack import Choice
from effxfer.report import Measurement, Report, Table

CORRECTIONS = 4
NEAR = 0.05
ALLOWED = 0.10


@dataclass(frozen=True, kw_only=True)
class LatencyTarget:
    """A latency to reach.

    Attributes:
        value: The figure, above 0.
        unit: `x`: a share of the dense network's latency; `ms`: milliseconds.
        per_ms: What one millisecond of the cost model is in that unit, before anything was measured.
    """

    value: float
    unit: Literal["x", "ms"]
    per_ms: float

    def __str__(self) -> str:
        return f"{self.value:.4g} {self.unit}"


@dataclass(frozen=True, kw_only=True)
class PairedTiming:
    """What an exported network takes.

    Attributes:
        ratio: Of its median latency to the dense network's, measured in turns.
        low: Lower end of the ratio's 95 % interval.
        high: Upper end.
        ms: Median latency in milliseconds.
        dense_ms: The dense network's.
        n: How many times both were opened.
    """

    ratio: float
    low: float
    high: float
    ms: float
    dense_ms: float
    n: int


@dataclass(frozen=True, kw_only=True)
class LatencyRound:
    """One configuration, as the model saw it and as it was measured.

    Attributes:
        model_target_ms: What the search was told to reach, in milliseconds of the cost model.
        predicted: What the model, as corrected by then, said that it takes, in the unit of what was asked.
        timing: What it takes.
        choice: The configuration.
    """

    model_target_ms: float
    predicted: float
    timing: PairedTiming
    choice: Choice

    def deviation(self, target: LatencyTarget) -> float:
        """By what share the measured latency is above (positive) or below what was asked."""
        return self.measured(target) / target.value - 1

    def measured(self, target: LatencyTarget) -> float:
        """The measured latency in the unit of what was asked."""
        return self.timing.ratio if target.unit == "x" else self.timing.ms


def search_to_target(
    target: LatencyTarget, solve: Callable[[float], Choice], time: Callable[[Choice], PairedTiming]
) -> list[LatencyRound]:  # fmt: skip
    """Search, measure, and correct the model by measured over predicted, until it is within 5 % of what was asked.

    Args:
        target: The latency to reach.
        solve: Gives the best configuration of at most so many milliseconds of the cost model.
        time: Measures a configuration.

    Returns:
        All rounds, at most five; it ends early where the search gives a configuration again.

    Raises:
        SettingsError: If the model knows no configuration that is fast enough.
    """
    rounds, per_ms = list[LatencyRound](), target.per_ms
    for number in range(CORRECTIONS + 1):
        choice = solve(target.value / per_ms)
        if not number and not choice.reached:
            least = LatencyTarget(value=choice.ms * per_ms, unit=target.unit, per_ms=per_ms)
            hint = "ask for more time, exclude fewer layers, or take a smaller backbone"
            raise SettingsError(f"a latency of {target} cannot be reached: {least} remains at least", hint)
        if any(_same_choice(choice, earlier.choice) for earlier in rounds):
            break
        predicted = choice.ms * per_ms
        now = LatencyRound(
            model_target_ms=target.value / per_ms, predicted=predicted, timing=time(choice), choice=choice
        )
        rounds.append(now)
        if abs(now.deviation(target)) <= NEAR or not choice.reached:
            break
        per_ms *= now.measured(target) / predicted
    return rounds


def nearest_round(rounds: Sequence[LatencyRound], target: LatencyTarget) -> LatencyRound:
    """Give the round nearest to what was asked, of those that are at most 10 % slower.

    Raises:
        GateError: If there is none.
    """
    allowed = [entry for entry in rounds if entry.deviation(target) <= ALLOWED]
    best = min(allowed or rounds, key=lambda entry: abs(entry.deviation(target)))
    if not allowed:
        text = f"asked for a latency of {target}, got {best.measured(target):.4g} {target.unit}"
        latencies = sorted(entry.measured(target) for entry in rounds)
        tried = ", ".join(f"{value:.3g}" for value in latencies)
        hint = f"ask for what it can be (tried: {tried} {target.unit}), or measure again when the machine is quiet"
        raise GateError(f"{text} in {len(rounds)} searches", hint)
    return best


def latency_report(rounds: Sequence[LatencyRound], best: LatencyRound, target: LatencyTarget) -> Report:
    """Tell what was asked, predicted and measured, and how the model was corrected."""
    timing, of = best.timing, "the dense network's p50" if target.unit == "x" else ""
    rows = (
        Measurement(name="latency/asked", value=target.value, unit=target.unit, of=of),
        Measurement(name="latency/predicted", value=best.predicted, unit=target.unit, of=of),
        Measurement(
            name="latency/measured", value=timing.ratio, unit="x", low=timing.low, high=timing.high, n=timing.n,
            of="the dense network's p50",
        ),
        Measurement(name="latency/p50", value=timing.ms, unit="ms", n=timing.n),
        Measurement(name="latency/p50 dense", value=timing.dense_ms, unit="ms", n=timing.n),
        Measurement(name="latency/corrections", value=len(rounds) - 1),
    )  # fmt: skip
    lines = tuple(
        {
            "search": number,
            "told ms": entry.model_target_ms,
            "predicted": entry.predicted,
            "measured": entry.measured(target),
            "ratio 95 %": f"{entry.timing.low:.3f} to {entry.timing.high:.3f}",
            "loss rise": entry.choice.loss,
            "taken": "yes" if entry is best else "",
        }
        for number, entry in enumerate(rounds, 1)
    )
    table = Table(title=f"Searches for a latency of {target}", rows=lines)
    return Report(rows=rows, tables=(table,), notes=_faster_note(best, target))


def _faster_note(best: LatencyRound, target: LatencyTarget) -> tuple[str, ...]:
    """Say where the network is faster than it had to be: a slower one could have kept more."""
    if best.deviation(target) >= -ALLOWED:
        return ()
    got = f"{best.measured(target):.3g} {target.unit}"
    return (f"faster than asked: {got} where {target} was allowed, because channels and blocks leave in steps",)


def _same_choice(first: Choice, second: Choice) -> bool:
    return dict(first.removed) == dict(second.removed) and first.dropped == second.dropped
