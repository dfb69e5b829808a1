"""The latency of one file that answers several tasks: the share of each head, and of all together."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from effxfer.errors import SettingsError
from effxfer.net.edits import apply_edit
from effxfer.net.heads.build import head_parameters
from effxfer.net.heads.spec import HeadSpec
from effxfer.net.net import Net
from effxfer.net.taps import tap_widths
from effxfer.report import Measurement, Report
from effxfer.runtime.rows import Rows
from effxfer.runtime.threads import usable_cores
from effxfer.search.costs import Costs
from effxfer.search.finalist import Heads, LatencyRatio
from effxfer.search.space import Candidate, SearchSettings, Taps
from effxfer.stages.head_search.head_latency import HeadLatencyMeter
from effxfer.stages.runner.onnx_timing import MAX_SECONDS, stopwatch


@dataclass(frozen=True, kw_only=True)
class TaskMeter:
    """Measures the file with a head for one task, and the plain linear head for each of the others.

    Attributes:
        meter: Serves all tasks.
        task: Place of the task.
        plain_taps: Layers that plain linear heads read.
    """

    meter: HeadLatencyMeter
    task: int
    plain_taps: Taps

    def costs(self, choices: Sequence[Taps], until: float) -> Costs | None:
        """See `HeadLatencyMeter.costs`; with the plain heads of the other tasks."""
        costs, spec = self.meter.costs(choices, until), HeadSpec()
        features = sum(self.meter.channels(self.plain_taps))
        widths = [width for place, width in enumerate(self.meter.widths) if place != self.task]
        plain = Candidate(spec=spec, taps=self.plain_taps, lr=1.0, weight_decay=0.0)  # rates cost no time
        return costs and costs.add_heads([(plain, head_parameters(spec, features, width)) for width in widths])

    def finalist_seconds(self) -> float:
        """See `HeadLatencyMeter.finalist_seconds`."""
        return self.meter.finalist_seconds()

    def time_finalists(self, heads: Heads, plain: int) -> Mapping[int, LatencyRatio]:
        """Time the files with each of some heads, by the number of its trial."""
        return self.meter.time_finalists(heads, plain, self.task, self.plain_taps)


def require_reachable(settings: SearchSettings, tasks: int) -> None:
    """Refuse a limit below the latency with plain linear heads, which the head of one of several tasks cannot reach.

    Raises:
        SettingsError: If there are several tasks, and the limit is below 1.
    """
    limit = settings.max_latency_ratio
    if limit is not None and limit < 1 and tasks > 1:
        text = f"max_latency_ratio = {limit:g} needs a body that ends early"
        text += f", which a head of one of {tasks} tasks cannot decide"
        hint = "give 1 or more: the body ends behind the deepest layer that a head reads; or search each task by itself"
        raise SettingsError(text, hint)


class FileTiming:
    """Times the network with the heads of all tasks in turns with the one that has plain linear heads.

    Args:
        net: The network before its heads are replaced.
        plain_taps: Layers that the plain linear heads read.
        columns: Arguments of the edit `set_head` that name the columns.
        settings: Threads, and the limit that the ratio is compared with.
        rows: Of the validation split: texts are timed at their median length.
    """

    # The exports take about as long as those before, which the searches reserve for themselves.
    seconds = MAX_SECONDS

    def __init__(
        self, net: Net, plain_taps: Taps, columns: Mapping[str, Any], settings: SearchSettings, rows: Rows
    ) -> None:  # fmt: skip
        self.settings, self.rows = settings, rows
        self.plain = deepcopy(net).cpu()
        features = sum(tap_widths(self.plain, plain_taps).values())
        apply_edit(self.plain, "set_head", spec={"kind": "linear"}, features=features, taps=list(plain_taps), **columns)

    def report(self, net: Net) -> Report:
        """Report the latency of the network beside that with plain linear heads."""
        threads = self.settings.threads or usable_cores()
        with stopwatch(self.plain, threads, seed=0, rows=self.rows) as time:
            timing = time(net)
        rows = (
            Measurement(name="heads latency/p50", value=timing.ms, unit="ms"),
            Measurement(name="linear heads latency/p50", value=timing.dense_ms, unit="ms"),
            Measurement(name="heads latency/ratio", value=timing.ratio, low=timing.low, high=timing.high, unit="x"),
        )
        limit = self.settings.max_latency_ratio
        if limit is None or timing.low <= limit:
            return Report(rows=rows)
        text = f"the file takes {timing.ratio:.3g} times as long as with linear heads, above max_latency_ratio"
        return Report(rows=rows, notes=(f"{text} = {limit:g}: kept heads count as well, and timings vary",))
