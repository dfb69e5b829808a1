"""Search with a latency model, measure the result, rescale the model, repeat. The timing function is injected."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from effxfer.errors import GateError, SettingsError
from effxfer.prune.channels.knapsack import Choice
from effxfer.report import Measurement, Report, Table

# Chosen: each costs an export and a timing of some seconds.
CORRECTIONS = 4
# Chosen: channels in steps of 8 and the noise of a timing allow hardly more.
NEAR = 0.05
# Chosen: what is slower breaks the promise; what is faster is only noted.
ALLOWED = 0.10


@dataclass(frozen=True, kw_only=True)
class LatencyTarget:
    """The requested latency.

    Attributes:
        value: The number, above 0.
        unit: `x`: a share of the dense network's latency; `ms`: milliseconds.
        per_ms: One millisecond of the cost model in that unit, before the first measurement.
    """

    value: float
    unit: Literal["x", "ms"]
    per_ms: float

    def __str__(self) -> str:
        return f"{self.value:.4g} {self.unit}"


@dataclass(frozen=True, kw_only=True)
class PairedTiming:
    """Measured latency of an exported network.

    Attributes:
        ratio: Median latency divided by the dense network's, measured in turns.
        low: Lower end of the ratio's 95 % interval.
        high: Upper end.
        ms: Median latency in milliseconds.
        dense_ms: Median latency of the dense network in milliseconds.
        n: Number of sessions that were opened of both.
    """

    ratio: float
    low: float
    high: float
    ms: float
    dense_ms: float
    n: int


@dataclass(frozen=True, kw_only=True)
class LatencyRound:
    """One configuration with its predicted and its measured latency.

    Attributes:
        model_target_ms: Target of the search, in milliseconds of the cost model.
        predicted: Latency by the corrected model, in the unit of the target.
        timing: Measured latency.
        choice: The configuration.
    """

    model_target_ms: float
    predicted: float
    timing: PairedTiming
    choice: Choice

    def deviation(self, target: LatencyTarget) -> float:
        """Relative deviation of the measured latency from the target; positive is slower."""
        return self.measured_value(target) / target.value - 1

    def measured_value(self, target: LatencyTarget) -> float:
        """Measured latency in the unit of the target."""
        return self.timing.ratio if target.unit == "x" else self.timing.ms


def search_to_target(
    target: LatencyTarget, solve: Callable[[float], Choice], time: Callable[[Choice], PairedTiming]
) -> list[LatencyRound]:  # fmt: skip
    """Search, measure, and scale the model by measured over predicted latency, until it is within 5 % of the target.

    Args:
        target: The latency to reach.
        solve: Returns the best configuration within a number of milliseconds of the cost model.
        time: Measures a configuration.

    Returns:
        All rounds, at most five; the loop ends early if the search repeats a configuration.

    Raises:
        SettingsError: If the model knows no configuration that is fast enough.
    """
    rounds, per_ms = list[LatencyRound](), target.per_ms
    for number in range(CORRECTIONS + 1):
        choice = solve(target.value / per_ms)
        # Only in the first search: later ones aim below the target because the model was wrong.
        if not number and not choice.reached:
            least = LatencyTarget(value=choice.ms * per_ms, unit=target.unit, per_ms=per_ms)
            hint = "ask for more time, exclude fewer layers, or take a smaller backbone"
            raise SettingsError(f"a latency of {target} cannot be reached: {least} remains at least", hint)
        # It would be measured to be the same.
        if any(_same_choice(choice, earlier.choice) for earlier in rounds):
            break
        predicted = choice.ms * per_ms
        now = LatencyRound(
            model_target_ms=target.value / per_ms, predicted=predicted, timing=time(choice), choice=choice
        )
        rounds.append(now)
        if abs(now.deviation(target)) <= NEAR or not choice.reached:
            break
        # One factor for the whole model: which layers it was wrong about is not known.
        per_ms *= now.measured_value(target) / predicted
    return rounds


def nearest_round(rounds: Sequence[LatencyRound], target: LatencyTarget) -> LatencyRound:
    """Return the round nearest to the target among those at most 10 % slower.

    Raises:
        GateError: If there is none.
    """
    allowed = [entry for entry in rounds if entry.deviation(target) <= ALLOWED]
    best = min(allowed or rounds, key=lambda entry: abs(entry.deviation(target)))
    if not allowed:
        text = f"asked for a latency of {target}, got {best.measured_value(target):.4g} {target.unit}"
        latencies = sorted(entry.measured_value(target) for entry in rounds)
        tried = ", ".join(f"{value:.3g}" for value in latencies)
        hint = f"ask for what it can be (tried: {tried} {target.unit}), or measure again when the machine is quiet"
        raise GateError(f"{text} in {len(rounds)} searches", hint)
    return best


def latency_report(rounds: Sequence[LatencyRound], best: LatencyRound, target: LatencyTarget) -> Report:
    """Report the target, the predicted and measured latency, and the corrections of the model."""
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
            "model target ms": entry.model_target_ms,
            "predicted": entry.predicted,
            "measured": entry.measured_value(target),
            "ratio 95 %": f"{entry.timing.low:.3f} to {entry.timing.high:.3f}",
            "loss rise": entry.choice.loss,
            "selected": "yes" if entry is best else "",
        }
        for number, entry in enumerate(rounds, 1)
    )
    table = Table(title=f"Searches for a latency of {target}", rows=lines)
    return Report(rows=rows, tables=(table,), notes=_faster_note(best, target))


def _faster_note(best: LatencyRound, target: LatencyTarget) -> tuple[str, ...]:
    """Note that the network is faster than the target: a slower one could have kept more channels."""
    if best.deviation(target) >= -ALLOWED:
        return ()
    got = f"{best.measured_value(target):.3g} {target.unit}"
    return (f"faster than requested: {got} for a target of {target}, because channels and blocks are removed in steps",)


def _same_choice(first: Choice, second: Choice) -> bool:
    return dict(first.removed) == dict(second.removed) and first.dropped == second.dropped
