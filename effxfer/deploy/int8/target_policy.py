"""Policy of a target CPU for int8 candidates: recipes to try, vetoes, and the choice without timing."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

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
from effxfer.deploy.int8.evaluation import CandidateResult, prefer_tables
from effxfer.deploy.int8.recipes import RECIPES
from effxfer.deploy.int8.static import Feeds
from effxfer.errors import ModelFileError
from effxfer.report import Measurement, Report

ENOUGH = 16  # images that show that a candidate saturates


class Evaluator(Protocol):
    """Measures a candidate on the whole validation split; the verdict is empty if it is good enough."""

    def measure(self, candidate: CandidateResult) -> CandidateResult:
        """Measure."""


class TargetPolicy:
    """Decisions for a target CPU that depend on this machine.

    Args:
        target: The CPUs; `ANY` leaves out and refuses nothing, and this machine's clock decides.
        host: This machine; None looks at it.

    Attributes:
        timed: Whether a latency measured here says something about the target.
        exact: Whether files must run with exact sums here to answer as they will there.
    """

    def __init__(self, target: Target, host: Target | None = None) -> None:
        self.target, self.host = target, host or host_target()
        self.timed = latency_applies(target, self.host)
        self.exact = needs_exact_sums(target, self.host)

    def recipes(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the recipes to try."""
        return select_recipes(self.target, names)

    def exclusions(self, names: Sequence[str]) -> dict[str, str]:
        """Map each excluded recipe to the reason."""
        reasons = {name: self.target.exclusion_reason(RECIPES[name]) for name in names}
        return {name: reason for name, reason in reasons.items() if reason}

    def veto(self, candidate: CandidateResult, feeds: Feeds) -> CandidateResult:
        """Count saturated sums, and reject the candidate if the target does not allow them."""
        if candidate.verdict or self.target.loss == "none":
            return candidate
        try:
            # On calibration images, never on the validation split, which only judges.
            counts = saturation(candidate.file, feeds, enough=ENOUGH)
        except ModelFileError as error:
            return replace(candidate, verdict=f"failed: {error.problem}")
        return replace(candidate, saturation=counts, verdict=self.target.veto(counts))

    def choose_untimed(
        self, evaluator: Evaluator, candidates: Sequence[CandidateResult]
    ) -> tuple[CandidateResult | None, list[CandidateResult]]:
        """Keep the most accurate candidate of the fastest kind on the target, without timing."""
        ranks = {
            candidate.name: self.target.rank(RECIPES[candidate.name])
            for candidate in candidates
            if not candidate.verdict
        }
        results = {candidate.name: candidate for candidate in candidates}
        accepted: list[CandidateResult] = []
        # The fastest kind first; a slower one only where all of it is refused.
        for name in sorted(ranks, key=lambda name: ranks[name]):
            if accepted and ranks[name] > ranks[accepted[0].name]:
                results[name] = replace(results[name], verdict=f"of a slower kind than {accepted[0].name}")
                continue
            results[name] = result = evaluator.measure(results[name])
            accepted += [] if result.verdict else [result]
        preferred = prefer_tables(accepted)
        best = max(preferred, key=lambda candidate: candidate.score or 0, default=None)
        for name, candidate in results.items():
            if best and not candidate.verdict:
                reason = f"{'less accurate' if candidate in preferred else 'larger'} than {best.name}"
                results[name] = replace(candidate, verdict="kept" if name == best.name else reason)
        return best and results[best.name], list(results.values())

    def report(self, best: CandidateResult, feeds: Feeds) -> Report:
        """Report saturation on x86 without VNNI, and the CPUs on which the file was checked.

        Args:
            best: The candidate.
            feeds: Calibration images.
        """
        if self.target is ANY:
            return Report()
        counts = best.saturation or saturation(best.file, feeds, enough=ENOUGH)
        share = 100 * counts.saturated / max(counts.pairs, 1)
        row = Measurement(name="saturation/int8", value=share, unit="%", n=max(counts.pairs, 1), of="pair sums")
        notes = [f"int8 is for {self.target.name}: {self.target.cpus}"]
        if not self.timed:
            notes.append(f"not timed: this CPU is {self.host.name}; run `effxfer bench` on {self.target.name}")
        if self.exact:
            notes.append(f"int8 accuracy is with exact sums, as on {self.target.name}; this CPU's own would saturate")
        table = coverage(counts, self.host, best.n, exact=self.exact)
        return Report(rows=(row,), notes=tuple(notes), tables=(table,))
