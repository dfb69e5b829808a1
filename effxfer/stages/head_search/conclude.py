"""The end of a search: compare the heads that were found with those that a network has, and put them in."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from effxfer.data.batches.batches import seed_of
from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.report import Measurement, Report
from effxfer.runtime.multi_task.task_outputs import TaskOutputs
from effxfer.runtime.outputs.base import Output
from effxfer.search.features import has_label
from effxfer.search.finalist import SearchResult
from effxfer.search.judging.incumbent import is_better
from effxfer.search.judging.metrics import row_score
from effxfer.search.space import tap_choices
from effxfer.stages.head_search.features import FeaturePlan
from effxfer.stages.head_search.replacing import replace_head, replace_task_heads
from effxfer.stages.head_search.searched_tasks import SearchedTask
from effxfer.stages.head_search.task_latency import FileTiming
from effxfer.stages.head_search.task_report import join_tasks, outputs_of, task_scores, task_table
from effxfer.stages.settings.common import Search
from effxfer.stages.train.finetune import accuracy_report
from effxfer.stages.train.head import answers_task, choose_thresholds, head_columns
from effxfer.train.devices import Device

# Draws of the bootstrap, and how much better a head must be, where a decision is right or wrong. Elsewhere metrics sort
# all examples in every draw (200 take half a minute with 80 labels of 10,000 images), and the rounding of stored maps
# moves them: R squared of a tiny network by 0.1 points.
DRAWS, MARGIN = 1000, 0.0
CONTINUOUS_DRAWS, CONTINUOUS_MARGIN = 200, 0.001


def conclude_task(
    net: Net, task: Task, plan: FeaturePlan, searched: Sequence[SearchedTask], results: Sequence[SearchResult],
    settings: Search, device: Device,
) -> Report:  # fmt: skip
    """Replace the head of a network of one task, if the best one found is better, and report the network."""
    (labels,), (result,) = searched, results
    report = result.report + Report(notes=plan.notes)
    raw = outputs_of(net, {"val": task.val}, device)["val"] if answers_task(net, task) else None
    rejection = reject_candidate(labels, result, raw, net.output, settings)
    if rejection:
        report += rejection
    else:
        replace_head(net, plan, result, task)
        choose_thresholds(net.to(device.torch), task, device)
    return accuracy_report(net.to(device.torch), task, device) + report


def conclude_tasks(
    net: Net, task: Task, plan: FeaturePlan, searched: Sequence[SearchedTask], results: Sequence[SearchResult],
    settings: Search, device: Device,
) -> Report:  # fmt: skip
    """Replace the heads of those tasks for which a better one was found, and report every task."""
    present = net.output if isinstance(net.output, TaskOutputs) and answers_task(net, task) else None
    before = outputs_of(net, task.reported_splits, device) if present else {}
    reports, chosen = dict[str, Report](), dict[str, SearchResult]()
    for labels, result in zip(searched, results, strict=True):
        own_raw = before["val"][:, labels.columns] if present else None
        own_output = present.outputs[labels.name] if present else labels.output
        rejection = reject_candidate(labels, result, own_raw, own_output, settings)
        reports[labels.name] = result.report + (rejection or Report())
        if not rejection:
            chosen[labels.name] = result
    timing = None
    if chosen:
        if settings.latency:
            plain_taps = tap_choices(settings, plan.taps)[0]
            timing = FileTiming(net, plain_taps, head_columns(task), settings, task.val.rows)
        replace_task_heads(net, plan, chosen, task)
        choose_thresholds(net.to(device.torch), task, device)
    after = outputs_of(net, task.reported_splits, device) if chosen else before
    report, now = Report(notes=plan.notes) + join_tasks(reports), net.output
    assert isinstance(now, TaskOutputs)
    if now.auxiliary:
        report += Report(notes=(f"auxiliary tasks keep their heads: {', '.join(now.auxiliary)}",))
    table = task_table(
        searched, task, results, chosen, before=before, outputs_before=present, after=after, outputs_after=now
    )
    return task_scores(net, task, after) + table + (timing.report(net) if timing else Report()) + report


def reject_candidate(
    labels: SearchedTask, result: SearchResult, raw: NDArray[np.float32] | None, output: Output, settings: Search
) -> Report | None:
    """Return a report if the existing head of a task is kept, else None.

    Args:
        labels: Labels of the task.
        result: The best head found.
        raw: Outputs `(M, C)` of the existing head on the validation split; None if there is no head for this task.
        output: What they mean; its standardisation of values may differ from that of the head that was found.
        settings: The required confidence.
    """
    if raw is None:
        return None
    labelled, metric = has_label(labels.output, labels.val), labels.metric
    known_labels = labels.val[labelled]
    candidate = row_score(labels.output, result.raw[labelled], known_labels, metric)
    present = row_score(output, raw[labelled], known_labels, metric)
    decided = labels.output.kind == "single"
    if is_better(
        candidate, present, len(known_labels), confidence=settings.confidence,
        draws=DRAWS if decided else CONTINUOUS_DRAWS, margin=MARGIN if decided else CONTINUOUS_MARGIN,
        seed=seed_of(settings.seed, "incumbent") % 2**31,
    ):  # fmt: skip
        return None
    rows = np.arange(len(known_labels))
    row = Measurement(name=f"present head {metric}/val", value=100 * present(rows), unit="%", n=len(known_labels))
    text = (
        f"kept the current head: best candidate {100 * candidate(rows):.2f} % vs {row.value:.2f} % val {metric}; "
        f"replacing it requires {100 * settings.confidence:g} % confidence"
    )
    return Report(rows=(row,), notes=(text,))
