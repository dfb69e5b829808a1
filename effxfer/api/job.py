"""One checked call of a stage: run it, or preview it."""

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec

from effxfer.api.result import Result
from effxfer.api.sources import Data, PathLike, Source, data_tables, inner_table, origin_of
from effxfer.data.settings import DataSettings
from effxfer.errors import SettingsError
from effxfer.settings import build
from effxfer.stages import STAGES
from effxfer.stages.runner.context import RunContext
from effxfer.stages.runner.run import preview as preview_stage
from effxfer.stages.runner.run import transform
from effxfer.stages.runner.source import Source as Origin
from effxfer.stages.runner.tasks import data_for
from effxfer.stages.settings.base import StageSettings
from effxfer.stages.stage import Stage

P = ParamSpec("P")
_previewing: ContextVar[bool] = ContextVar("previewing", default=False)


class _Preview(Exception):  # noqa: N818 (no error: it carries a preview out of the function that would have run)
    """Carries the description of a call out of the function that would have run it."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        super().__init__("previewed")
        self.document = dict(document)


def preview(function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> dict[str, Any]:
    """Check a call's settings, data, networks and output directory, and return what it would do, without doing it.

    Args:
        function: A function that runs a stage, or `bench` or `rank`.
        args: Positional arguments of the call.
        kwargs: Keyword arguments of the call.

    Returns:
        A dictionary. For a stage: `stage`, `done` (whether the result exists), `key`, `out`, `settings`, `images`
        (number per split and task) and `note` (what was not checked).

    Raises:
        SettingsError: If the function cannot be previewed.
        EffxferError: Any error that the call itself would raise before its work begins.

    Examples:
        >>> plan = ex.preview(ex.finetune, "timm:resnet18", data="photos", out="runs/dense", epochs=6)
        >>> print(plan["images"], plan["done"])
    """
    token = _previewing.set(True)
    try:
        function(*args, **kwargs)
    except _Preview as stopped:
        return stopped.document
    finally:
        _previewing.reset(token)
    name = getattr(function, "__name__", "this")
    raise SettingsError(f"{name} has no preview", "preview a function that runs a stage")


def stop_if_previewing(document: Callable[[], Mapping[str, Any]]) -> None:
    """End the calling function if `preview` called it; `document` then returns the description of the call."""
    if _previewing.get():
        raise _Preview(document())


@dataclass(frozen=True, kw_only=True)
class Job:
    """A stage with all its inputs.

    Attributes:
        stage: The stage.
        settings: Checked settings.
        origin: Network, ticket or adapter to start from.
        tasks: Settings of the data, one per task.
        context: Output directory, device and cache.
    """

    stage: Stage
    settings: StageSettings
    origin: Origin
    tasks: list[DataSettings]
    context: RunContext

    def run(self) -> Result:
        """Run the stage, or return its existing result."""
        stop_if_previewing(lambda: preview_stage(self.stage, self.settings, self.origin, self.tasks, self.context))
        return Result.of(transform(self.stage, self.settings, self.origin, self.tasks, self.context))


def run_stage(
    stage: str, source: Source | Callable[[Mapping[str, Any]], Origin], *, out: PathLike,
    data: Data | Sequence[Data] | None, settings: dict[str, Any], device: str, force: bool,
) -> Result:  # fmt: skip
    """Run a stage with settings in one nested dictionary.

    Args:
        stage: A key of `STAGES`.
        source: Source of the stage, or a function from the `backbone` table of the settings to the source.
        out: Model directory to write.
        data: Data of the stage, several in order of time; None for the data that the network was made with.
        settings: Settings of the stage, and tables `backbone` and `data`.
        device: `auto`, `cpu`, `cuda` or `cuda:1`.
        force: Whether to replace a result of other inputs.

    Raises:
        EffxferError: If an argument is wrong, an input is unusable, or the stage fails.
    """
    backbone = inner_table(settings, "backbone")
    origin = source(backbone) if callable(source) else origin_of(source, backbone)
    context = RunContext(out=Path(out), device=device, force=force)
    tables = data_tables(data, inner_table(settings, "data"))
    tasks = [task for table in tables for task in data_for(origin, table)]
    chosen = build(STAGES[stage].settings, settings, stage)
    return Job(stage=STAGES[stage], settings=chosen, origin=origin, tasks=tasks, context=context).run()
