"""Notes on the runtime of each model: what it is timed in, and whether another one is faster here."""

from collections.abc import Iterator, Mapping, Sequence

from effxfer.benchmark.protocol.latency import Timing
from effxfer.benchmark.runtimes.registry import ORT_TITLE, RUNTIMES, model_name
from effxfer.runtime.openvino.openvino_session import openvino_version
from effxfer.runtime.session import OPENVINO

ADVICE = {
    ORT_TITLE: "export without `runtime` to ship it so",
    RUNTIMES[OPENVINO].title: "export with `runtime=openvino` to check and ship it so",
}


def own_notes(exported_for: Mapping[str, str]) -> Iterator[str]:
    """Yield a note on the models that were exported for OpenVINO; `exported_for` are the runtimes by model."""
    names = [name for name, runtime in exported_for.items() if runtime == OPENVINO]
    if names:
        yield f"timed in {openvino_version()}, for which they were exported: {', '.join(names)}"


def faster_notes(timings: Sequence[Timing], exported_for: Mapping[str, str]) -> Iterator[str]:
    """Yield a note for each model that is faster in another runtime than in its own.

    Args:
        timings: Timings of models and of `MODEL in RUNTIME`, all against the same baseline.
        exported_for: Runtimes that models were exported for, by model.
    """
    by_name = {timing.name: timing for timing in timings}
    for title, timing in by_name.items():
        name = model_name(title, exported_for)
        if title == name or name not in exported_for:
            continue
        mine, runtime = by_name[name], title.removeprefix(f"{name} in ")
        # Not paired with each other: the wider of both intervals.
        low, high = timing.ratio_low / mine.ratio_high, timing.ratio_high / mine.ratio_low
        if high < 1:
            advice = f"; {ADVICE[runtime]}" if runtime in ADVICE else ""
            yield (
                f"{name} is faster in {runtime} on this CPU: {timing.ratio / mine.ratio:.3f} [{low:.3f}, {high:.3f}] "
                f"of its p50{advice}"
            )
