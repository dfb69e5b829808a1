"""What the target decides about int8 candidates: which are made, which are refused, which is kept without a clock."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from effxfer.deploy.cpu.saturation import saturation
from effxfer.deploy.cpu.targets import ANY, Target, coverage, recipes_for, summed_exactly, this, timed_here
from effxfer.deploy.int8.static import Feeds
from effxfer.deploy.settings import RECIPES
from effxfer.errors import ModelFileError
from effxfer.report import Measurement, Report

if TYPE_CHECKING:
    from effxfer.deploy.int8.evaluation import Trial

ENOUGH = 16  # images that show that a candidate saturates


class Judge(Protocol):
    """Measures a candidate on the whole validation split; the verdict is empty if it is good enough."""

    def whole(self, trial: "Trial") -> "Trial":
        """Measure."""


class Aim:
    """The target, seen from this machine.

    Args:
        target: The CPUs; `ANY` leaves out and refuses nothing, and this machine's clock decides.
        here: This machine; None looks at it.

    Attributes:
        timed: Whether a latency measured here says something about the target.
        exact: Whether files must run with exact sums here to answer as they will there.
    """

    def __init__(self, target: Target, here: Target | None = None) -> None:
        self.target, self.here = target, here or this()
        self.timed = timed_here(target, self.here)
        self.exact = summed_exactly(target, self.here)

    def recipes(self, names: Sequence[str]) -> tuple[str, ...]:
        """Give the recipes to try."""
        return recipes_for(self.target, names)

    def left_out(self, names: Sequence[str]) -> dict[str, str]:
        """Say of the other recipes why they are not tried."""
        reasons = {name: self.target.left_out(RECIPES[name]) for name in names}
        return {name: reason for name, reason in reasons.items() if reason}

    def vetoed(self, trial: "Trial", feeds: Feeds) -> "Trial":
        """Count what would saturate, and refuse the candidate if the target cannot have that."""
        if trial.verdict or self.target.loss == "none":
            return trial
        try:
            found = saturation(trial.file, feeds, enough=ENOUGH)
        except ModelFileError as error:
            return replace(trial, verdict=f"failed: {error.problem}")
        return replace(trial, saturation=found, verdict=self.target.veto(found))

    def untimed(self, judge: Judge, trials: Sequence["Trial"]) -> tuple["Trial | None", list["Trial"]]:
        """Keep the most accurate candidate of the kind that is fastest on the target, for no clock here can tell."""
        ranks = {trial.name: self.target.rank(RECIPES[trial.name]) for trial in trials if not trial.verdict}
        done = {trial.name: trial for trial in trials}
        kept: Trial | None = None
        for name in sorted(ranks, key=lambda name: ranks[name]):
            if kept and ranks[name] > ranks[kept.name]:
                done[name] = replace(done[name], verdict=f"of a slower kind than {kept.name}")
                continue
            done[name] = found = judge.whole(done[name])
            if not found.verdict and (kept is None or (found.accuracy or 0) > (kept.accuracy or 0)):
                kept = found
        for name, trial in done.items():
            if kept and not trial.verdict:
                done[name] = replace(trial, verdict="kept" if name == kept.name else f"less accurate than {kept.name}")
        return kept and done[kept.name], list(done.values())

    def report(self, kept: "Trial", feeds: Feeds) -> Report:
        """Say what the kept file would lose on x86 without VNNI, where it was checked and where it should hold.

        Args:
            kept: The candidate.
            feeds: Calibration images.
        """
        if self.target is ANY:
            return Report()
        found = kept.saturation or saturation(kept.file, feeds, enough=ENOUGH)
        share = 100 * found.saturated / max(found.pairs, 1)
        row = Measurement(name="saturation/int8", value=share, unit="%", n=max(found.pairs, 1), of="pair sums")
        notes = [f"int8 is for {self.target.name}: {self.target.cpus}"]
        if not self.timed:
            notes.append(f"not timed: this CPU is {self.here.name}; run `effxfer bench` on {self.target.name}")
        if self.exact:
            notes.append(f"int8 accuracy is with exact sums, as on {self.target.name}; this CPU's own would saturate")
        table = coverage(found, self.here, kept.n, exact=self.exact)
        return Report(rows=(row,), notes=tuple(notes), tables=(table,))
