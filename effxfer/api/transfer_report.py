"""Function that reports what compression costs on other domains, new classes and the worst class."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from effxfer.api.deliver import distinct_names
from effxfer.api.job import stop_if_previewing
from effxfer.api.result import Reported, Result
from effxfer.api.sources import Data, PathLike, data_table, inner_table, path_of, table_of
from effxfer.artifact import Artifact
from effxfer.data.load import scan
from effxfer.data.settings import DataSettings
from effxfer.errors import SettingsError
from effxfer.settings import build
from effxfer.stages import STAGES
from effxfer.stages.runner.context import RunContext
from effxfer.stages.runner.run import compare
from effxfer.stages.runner.tasks import data_for
from effxfer.stages.settings.transfer_report_settings import TransferReport

STAGE = "transfer_report"


def transfer_report(
    models: Sequence[PathLike | Result], *, data: Data | None = None, target: Data | None = None,
    out: PathLike | None = None, level: float | None = None, seed: int | None = None, force: bool = False,
    settings: Mapping[str, Any] | None = None, **extra: Any,
) -> Reported:  # fmt: skip
    """Report what each model of a chain loses on its worst class, on another domain, or on new classes.

    Args:
        models: Model directories, in the order of the chain: dense, ticket, pruned, int8. The first one is the
            baseline. Of a directory with exported files, these are examined.
        data: Data with the classes of the models; None for those of the first model.
        target: Examples of another domain with the same classes, or of new classes; None for the target of `data`.
        out: Directory for the result and its page; None writes nothing.
        level: Confidence level of the intervals, in (0, 1); 0.95 if None.
        seed: Random seed of the episodes; 0 if None.

    Returns:
        The report: `accuracy/test/MODEL`, `worst class/test/MODEL`, `accuracy/target/MODEL`, and `.../drop` in points.

    Raises:
        SettingsError: If no data are known, or the models have other classes than the first one.
        DataError: If the data cannot be used.

    Examples:
        >>> chain = ["runs/dense", "runs/small", "runs/small-onnx"]
        >>> print(ex.transfer_report(chain, data="photos", target="sketches"))
    """
    changes = dict(settings or {})
    inner = inner_table(changes, "data")
    chosen = build(TransferReport, table_of(changes, extra, level=level, seed=seed), STAGE)
    paths = [path_of(model) for model in models]
    if not paths:
        raise SettingsError("no model is given", "name model directories, the uncompressed one first")
    artifacts = {name: Artifact.load(path) for name, path in zip(distinct_names(paths), paths, strict=True)}
    if target is not None:
        inner["target"] = data_table(target, inner.get("target", {}))
    # Of the first model, for all: a model that was made from other data would be measured on others.
    shared = data_for(next(iter(artifacts.values())), data_table(data, inner))[-1]
    stop_if_previewing(lambda: _preview(artifacts, chosen, shared))
    function = partial(STAGES[STAGE].function(), data=shared)
    if out is None:
        return Reported(report=function(artifacts, chosen))
    context = RunContext(out=Path(out), force=force)
    artifact = compare(STAGE, lambda: function, chosen, artifacts, context, data=[scan(shared).key])
    return Reported(report=artifact.manifest.report)


def _preview(models: Mapping[str, Artifact], settings: TransferReport, data: DataSettings) -> dict[str, Any]:
    scan(data)
    return {"stage": STAGE, "models": list(models), "data": data.plain(), "settings": settings.plain()}
