"""Function that reports what compression costs on other domains, new classes and the worst class."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from effxfer.api.deliver import distinct_names
from effxfer.api.job import stop_if_previewing
from effxfer.api.result import Reported, Result
from effxfer.api.sources import Data, PathLike, data_table, data_tables, inner_table, path_of, table_of
from effxfer.artifact import Artifact
from effxfer.data.history import NONE, History
from effxfer.data.load import scan
from effxfer.data.settings import DataSettings
from effxfer.errors import SettingsError
from effxfer.settings import build
from effxfer.stages import STAGES
from effxfer.stages.data.split_history import history_of
from effxfer.stages.runner.context import RunContext
from effxfer.stages.runner.run import compare
from effxfer.stages.runner.tasks import data_for
from effxfer.stages.settings.transfer_report_settings import TransferReport

STAGE = "transfer_report"


def transfer_report(
    models: Sequence[PathLike | Result], *, data: Data | Sequence[Data] | None = None, target: Data | None = None,
    out: PathLike | None = None, level: float | None = None, max_drop: float | None = None, seed: int | None = None,
    force: bool = False, settings: Mapping[str, Any] | None = None, **extra: Any,
) -> Reported:  # fmt: skip
    """Report what each model of a chain loses on its worst class, on another domain, or on new classes.

    Args:
        models: Model directories, in the order of the chain: dense, ticket, pruned, int8. The first one is the
            baseline. Of a directory with exported files, these are examined.
        data: Data with the classes of the models, or the tasks that they learned one after another, which are compared
            one by one; None for those of the first model.
        target: Examples of another domain with the same classes, or of new classes; None for the target of `data`.
        out: Directory for the result and its page; None writes nothing.
        level: Confidence level of the intervals, in (0, 1); 0.95 if None.
        max_drop: Of several tasks, the largest loss on any of them against the first model, in points; None: no limit.
        seed: Random seed of the episodes; 0 if None.

    Returns:
        The report: `accuracy/test/MODEL`, `worst class/test/MODEL`, `accuracy/target/MODEL`, and `.../drop` in points.

    Raises:
        SettingsError: If no data are known, or the models have other classes than the first one.
        DataError: If the data cannot be used.
        GateError: If a model loses more than `max_drop` on a task.

    Examples:
        >>> chain = ["runs/dense", "runs/small", "runs/small-onnx"]
        >>> print(ex.transfer_report(chain, data="photos", target="sketches"))
    """
    changes = dict(settings or {})
    inner = inner_table(changes, "data")
    chosen = build(TransferReport, table_of(changes, extra, level=level, max_drop=max_drop, seed=seed), STAGE)
    paths = [path_of(model) for model in models]
    if not paths:
        raise SettingsError("no model is given", "name model directories, the uncompressed one first")
    artifacts = {name: Artifact.load(path) for name, path in zip(distinct_names(paths), paths, strict=True)}
    if target is not None:
        inner["target"] = data_table(target, inner.get("target", {}))
    # Of the first model, for all: a model that was made from other data would be measured on others.
    baseline = next(iter(artifacts.values()))
    shared = [task for table in data_tables(data, inner) for task in data_for(baseline, table)]
    # A single data set is listed without it, as always: its key tells whether a result is there.
    history = history_of(baseline, chosen) if len(shared) > 1 else NONE
    stop_if_previewing(lambda: _preview(artifacts, chosen, shared, history))
    function = partial(STAGES[STAGE].function(), data=shared)
    if out is None:
        return Reported(report=function(artifacts, chosen))
    context = RunContext(out=Path(out), force=force)
    artifact = compare(
        STAGE, lambda: function, chosen, artifacts, context, data=[scan(each, history=history).key for each in shared]
    )
    return Reported(report=artifact.manifest.report)


def _preview(
    models: Mapping[str, Artifact], settings: TransferReport, data: Sequence[DataSettings], history: History
) -> dict[str, Any]:  # fmt: skip
    for each in data:
        scan(each, history=history)
    described = [each.plain() for each in data]
    return {"stage": STAGE, "models": list(models), "data": described[-1], "settings": settings.plain()}
