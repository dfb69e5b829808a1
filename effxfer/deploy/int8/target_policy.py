"""What the target decides about int8 candidates: which are made, which are refused, which is kept without a clock."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from effxfer.deploy.cpu.saturation import saturation
from effxfer.deploy.cpu.targets import (
    ANY,
    Target,
    coverage,
    host_target,
    latency_applies,
    needs_exact_sums,
    select_recipes,
)
from effxfer.deploy.int8.static import Feeds
from effxfer.deploy.settings import RECIPES
from effxfer.errors import ModelFileError
from effxfer.report import Measurement, Report

if TYPE_CHECKING:
    from effxfer.deploy.int8.evaluation import CandidateResult

ENOUGH = 16  # images that show that a candidate saturates


class Evaluator(Protocol):
    """Measures a candidate on the whole validation split; the verdict is empty if it is good enough."""

    def whole(self, candidate: "CandidateResult") -> "CandidateResult":
        """Measure."""


class TargetPolicy:
    """The target, seen from this machine.

    Args:
        target: The CPUs; `ANY` leaves out and refuses nothing, and this machine's clock decides.
        here: This machine; None looks at it.

    Attributes:
        timed: Whether a latency measured here says something about the target.
        exact: Whether files must run with exact sums here to answer as they will there.
    """

    def __init__(self, target: Target, here: Target | None = None) -> None:
        self.target, self.here = target, here or host_target()
        self.timed = latency_applies(target, self.here)
        self.exact = needs_exact_sums(target, self.here)

    def recipes(self, names: Sequence[str]) -> tuple[str, ...]:
        """Give the recipes to try."""
        return select_recipes(self.target, names)

    def left_out(self, names: Sequence[str]) -> dict[str, str]:
        """Say of the other recipes why they are not tried."""
        reasons = {name: self.target.exclusion_reason(RECIPES[name]) for name in names}
        return {name: reason for name, reason in reasons.items() if reason}

    def vetoed(self, candidate: "CandidateResult", feeds: Feeds) -> "CandidateResult":
        """Count what would saturate, and refuse the candidate if the target cannot have that."""
        if candidate.verdict or self.target.loss == "none":
            return candidate
        try:
            found = saturation(candidate.file, feeds, enough=ENOUGH)
        except ModelFileError as error:
            return replace(candidate, verdict=f"failed: {error.problem}")
        return replace(candidate, saturation=found, verdict=self.target.veto(found))

    def untimed(
        self, evaluator: Evaluator, candidates: Sequence["CandidateResult"]
    ) -> tuple["CandidateResult | None", list["CandidateResult"]]:
        """Keep the most accurate candidate of the kind that is fastest on the target, for no clock here can tell."""
        ranks = {
            candidate.name: self.target.rank(RECIPES[candidate.name])
            for candidate in candidates
            if not candidate.verdict
        }
        done = {candidate.name: candidate for candidate in candidates}
        kept: CandidateResult | None = None
        for name in sorted(ranks, key=lambda name: ranks[name]):
            if kept and ranks[name] > ranks[kept.name]:
                done[name] = replace(done[name], verdict=f"of a slower kind than {kept.name}")
                continue
            done[name] = found = evaluator.whole(done[name])
            if not found.verdict and (kept is None or (found.accuracy or 0) > (kept.accuracy or 0)):
                kept = found
        for name, candidate in done.items():
            if kept and not candidate.verdict:
                done[name] = replace(
                    candidate, verdict="kept" if name == kept.name else f"less accurate than {kept.name}"
                )
        return kept and done[kept.name], list(done.values())

    def report(self, kept: "CandidateResult", feeds: Feeds) -> Report:
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
