"""One call of a stage, checked: run it, or say what it would do."""

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec

from effxfer.api.result import Result
from effxfer.api.sources import Data, PathLike, Source, data_table, inner_table, origin_of
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
    """What a function would have done."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        super().__init__("previewed")
        self.document = dict(document)


def preview(function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> dict[str, Any]:
    """Check the settings, data, names and places of a call, and return what it would do without doing it.

    Args:
        function: A function of the api that runs a stage, `bench` or `rank`.
        args: Its arguments.
        kwargs: Its keyword arguments.

    Raises:
        SettingsError: If the function cannot be previewed.
        EffxferError: What the call itself would raise before its work begins.
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
    """Leave the function that calls this, if `preview` called that; `document` then says what it would do."""
    if _previewing.get():
        raise _Preview(document())


@dataclass(frozen=True, kw_only=True)
class Job:
    """A stage with everything that it takes.

    Attributes:
        stage: Which.
        settings: Checked.
        origin: What it starts from.
        tasks: The data.
        context: Output directory, device and cache.
    """

    stage: Stage
    settings: StageSettings
    origin: Origin
    tasks: list[DataSettings]
    context: RunContext

    def run(self) -> Result:
        """Run the stage, or return the result that is there already."""
        stop_if_previewing(lambda: preview_stage(self.stage, self.settings, self.origin, self.tasks, self.context))
        return Result.of(transform(self.stage, self.settings, self.origin, self.tasks, self.context))


def run_stage(
    stage: str, source: Source | Callable[[Mapping[str, Any]], Origin], *, out: PathLike, data: Data | None,
    settings: dict[str, Any], device: str, force: bool,
) -> Result:  # fmt: skip
    """Run a stage with settings that a caller passed as one table.

    Args:
        stage: A key of `STAGES`.
        source: What it starts from; or a function that opens it, given the table `backbone` of the settings.
        out: The model directory to write.
        data: As `load_data` takes it; None is what the network was made with.
        settings: Of the stage, with tables `backbone` and `data` for those.
        device: `auto`, `cpu`, `cuda` or `cuda:1`.
        force: Replace a result that was made from other inputs.

    Raises:
        EffxferError: For a mistake in what was passed, missing resources, or a stage that fails.
    """
    backbone = inner_table(settings, "backbone")
    origin = source(backbone) if callable(source) else origin_of(source, backbone)
    context = RunContext(out=Path(out), device=device, force=force)
    tasks = data_for(origin, data_table(data, inner_table(settings, "data")))
    chosen = build(STAGES[stage].settings, settings, stage)
    return Job(stage=STAGES[stage], settings=chosen, origin=origin, tasks=tasks, context=context).run()
