"""Evaluation of int8 candidates against the float file: score and latency."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effxfer.deploy.cpu.saturation import Saturation
from effxfer.deploy.decisions.by_class import ClassCounts
from effxfer.deploy.export.logits import onnx_logits
from effxfer.deploy.export.parity import agreement
from effxfer.deploy.int8.recipes import RECIPES
from effxfer.deploy.int8.static import Feeds
from effxfer.errors import ModelFileError
from effxfer.runtime.multi_task.worst_task import worst_drop
from effxfer.runtime.outputs.base import Labels, Output
from effxfer.runtime.outputs.positions import count_texts, select_texts
from effxfer.runtime.outputs.single_label import SINGLE_LABEL, SingleLabel
from effxfer.runtime.rows import Rows
from effxfer.runtime.session import ONNXRUNTIME

FP32 = "fp32"
# Chosen: where 2 % of the decisions change, a drop is known to 1.7 points (95 %); that is enough to reject.
SCREEN = 256


@dataclass(frozen=True, kw_only=True)
class CandidateResult:
    """Results of one recipe so far.

    Attributes:
        name: Key of the recipe, or `fp32`.
        file: The candidate.
        score: Main metric on the n examples, in points; None before it is measured.
        drop: Points below the float file on the same examples; of several tasks, those of the worst one.
        worst: The task that lost most; empty for a network of one task.
        agreement: Examples with the float file's decision, in percent.
        class_drop: Points that the class which loses most is below the float file; None where no limit is set.
        worst_class: That class.
        n: Examples.
        timing: Result of `effxfer.benchmark.protocol.latency.compare`; None if it was not timed.
        saturation: Saturated sums on x86 without VNNI; None before they are counted.
        verdict: Reason why it was kept or rejected.
    """

    name: str
    file: Path
    score: float | None = None
    drop: float | None = None
    worst: str = ""
    agreement: float | None = None
    class_drop: float | None = None
    worst_class: str = ""
    n: int = 0
    timing: Any = None
    saturation: Saturation | None = None
    verdict: str = ""

    def row(self, title: str, unit: str) -> dict[str, Any]:
        """Return a row of the report's table; `title` is that of the metric, `unit` that of n."""
        timed = {c: getattr(self.timing, c, None) for c in ("p50", "ratio", "ratio_low", "ratio_high")}
        size = self.file.stat().st_size / 1e6 if self.n and self.file.exists() else None
        shares = {f"{title} %": self.score, "drop, points": self.drop, "agreement %": self.agreement}
        return {"recipe": self.name, **shares, unit: self.n, **timed, "MB": size, "verdict": self.verdict}


def prefer_tables(candidates: Sequence[CandidateResult]) -> list[CandidateResult]:
    """Drop candidates that are as good as others but for their embedding tables, which are in float32.

    Look-ups take no time that a clock could tell apart, but such tables are half of a small BERT.
    """
    with_tables = [candidate for candidate in candidates if RECIPES[candidate.name].tables]
    return with_tables or list(candidates)


@dataclass(frozen=True, kw_only=True)
class CandidateTimer:
    """Times candidates against the float file.

    Attributes:
        examples: The rows that one call takes a typical one of.
        threads: Threads of the runtime.
        runtime: What runs the files, see `Model`.
        compare: Times runners; None is `effxfer.benchmark.protocol.latency.compare`.
    """

    examples: Feeds
    threads: int
    compare: Callable[..., Sequence[Any]] | None
    runtime: str = ONNXRUNTIME

    def __call__(
        self, dense: CandidateResult, candidates: Collection[CandidateResult], seconds: float
    ) -> dict[str, Any]:
        """Time candidates for about `seconds` in all; return timings by name."""
        from effxfer.benchmark.protocol import latency
        from effxfer.benchmark.runtimes.registry import runner_in

        # One example: the latency of a device that gets one at a time.
        feed = self.examples.typical()
        runner = runner_in(self.runtime)
        runners = {t.name: runner(t.file, feed, self.threads) for t in (dense, *candidates)}
        compare = self.compare or latency.compare
        timings = compare(runners, baseline=FP32, threads=self.threads, max_seconds=seconds)
        return {timing.name: timing for timing in timings}


class Evaluator:
    """Measures candidates against the float file on the validation split."""

    def __init__(
        self, fp32: Path, rows: Rows, labels: Labels, max_drop: float, threads: int,
        exact: bool = False, output: Output = SINGLE_LABEL, unit: str = "images", max_class_drop: float | None = None,
        runtime: str = ONNXRUNTIME,
    ) -> None:  # fmt: skip
        self.max_class_drop = max_class_drop
        self.exact, self.output, self.unit, self.runtime = exact, output, unit, runtime
        self.rows, self.labels, self.max_drop, self.threads = rows, labels, max_drop, threads
        self.logits = onnx_logits(fp32, rows, threads=threads, runtime=runtime)
        score = output.score(self.logits, labels).value
        self.dense = CandidateResult(
            name=FP32, file=fp32, score=score, drop=0.0, agreement=100.0, n=count_texts(labels)
        )

    def screen(self, candidate: CandidateResult) -> CandidateResult:
        """Measure on a part of the split; reject a candidate whose drop chance cannot explain."""
        if candidate.verdict:
            return candidate
        sample = select_texts(self.labels, SCREEN)
        try:
            candidate, deviation = self._evaluate(candidate, sample)
        except ModelFileError as error:  # a runtime may lack an operator of one recipe
            return replace(candidate, verdict=f"failed: {error.problem}")
        # 95 %: only what chance cannot explain is rejected early.
        slack = 2 * deviation
        if candidate.drop is not None and candidate.drop - slack > self.max_drop:
            return replace(candidate, verdict=self._rejection(candidate))
        return candidate

    def measure(self, candidate: CandidateResult) -> CandidateResult:
        """Measure on the whole split."""
        candidate, _ = self._evaluate(candidate, np.arange(len(self.labels)))
        return replace(candidate, verdict="" if self._fits(candidate) else self._rejection(candidate))

    def _fits(self, candidate: CandidateResult) -> bool:
        return candidate.drop is not None and candidate.drop <= self.max_drop + 1e-9 and not self._hurts(candidate)

    def _hurts(self, candidate: CandidateResult) -> bool:
        """Whether a class loses more than it may."""
        limit = self.max_class_drop
        return limit is not None and candidate.class_drop is not None and candidate.class_drop > limit + 1e-9

    def _rejection(self, candidate: CandidateResult) -> str:
        if self._hurts(candidate):
            return (
                f"rejected: {candidate.class_drop:.2f} points below fp32 in the class {candidate.worst_class}, "
                f"allowed are {self.max_class_drop:g}"
            )
        task = f"task {candidate.worst!r} " if candidate.worst else ""
        text = f"rejected: {task}{candidate.drop:.2f} points below fp32 on {candidate.n} {self.unit}"
        return f"{text}, allowed are {self.max_drop:g}"

    def _evaluate(self, candidate: CandidateResult, chosen: NDArray[np.int_]) -> tuple[CandidateResult, float]:
        """Return the candidate with its results, and the standard deviation of its drop."""
        labels = self.labels[chosen]
        got = onnx_logits(
            candidate.file, self.rows[chosen], threads=self.threads, exact=self.exact, runtime=self.runtime
        )
        # Outputs per position have those of the longest chosen text.
        dense = self.logits[chosen][:, : got.shape[1]]
        score, drop = self.output.score(got, labels).value, worst_drop(self.output, dense, got, labels)
        agreed = agreement(self.output, dense, got, labels)
        result = replace(
            candidate, score=score, drop=drop.points, worst=drop.task, agreement=agreed, n=count_texts(labels)
        )
        if self.max_class_drop is not None and isinstance(self.output, SingleLabel):
            counts = ClassCounts.of(self.output, labels, {"fp32": dense, "int8": got})
            points, worst = counts.largest_drop("fp32", "int8")
            result = replace(result, class_drop=points, worst_class=counts.classes[worst])
        return result, drop.deviation
