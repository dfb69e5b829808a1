"""A pipeline: stages in a TOML file, run in order, each into its own directory; what is done is skipped."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from effxfer.artifact import MANIFEST, Artifact
from effxfer.data.load import scan
from effxfer.data.settings import DataSettings
from effxfer.errors import ModelFileError, SettingsError, joined
from effxfer.files import digest, is_locked, locked
from effxfer.net.backbones.trust import trusting_sources
from effxfer.pipeline.plan import MAKES_NET, Plan, Step, read_plan
from effxfer.process.rank import leads
from effxfer.report import Report, Table
from effxfer.stages import STAGES
from effxfer.stages.runner.checks import check_backbone, check_settings
from effxfer.stages.runner.context import RunContext
from effxfer.stages.runner.key import comparison_key, stage_key
from effxfer.stages.runner.output_dir import check_directory, check_folder, check_writable, keep_out_of
from effxfer.stages.runner.run import compare, named_networks, transform
from effxfer.stages.runner.source import Adapted, Source, read_adapter, read_ticket
from effxfer.stages.settings.common import SHIP

__all__ = ["Plan", "Step", "check", "check_options", "conclusion", "publish", "read_plan", "run", "statuses"]


def run(
    plan: Plan, context: RunContext, tell: Callable[[Step, Artifact], None] = lambda _step, _made: None, *,
    shares: Mapping[str, float] = MappingProxyType({}),
) -> list[Artifact]:  # fmt: skip
    """Run every step that is not done yet.

    Args:
        plan: What to do.
        context: `out` receives `1-dense/`, `2-ticket/` and so on.
        tell: Called with each step and its result, done now or before.
        shares: The time that each step may take, by its name, in seconds. What one leaves, or takes beyond it, is the
            next one's gain or loss.

    Returns:
        The results, in order.

    Raises:
        LockedError: If another run works in `context.out`.
    """
    made: dict[str, Artifact] = {}
    check_places(plan, context)
    with locked(context.out) if leads() else nullcontext(), trusting_sources(*named_in_plan(plan)):
        began, due = time.monotonic(), 0.0
        check_options(plan, context)
        for step in plan.steps:
            extra = due - (time.monotonic() - began) if shares else 0.0
            here = replace(context, out=context.out / plan.place(step), extra_seconds=extra)
            there = (here.out / MANIFEST).is_file()
            made[step.name] = run_step(plan, step, made, here)
            due = time.monotonic() - began if there else due + shares.get(step.name, 0.0)
            tell(step, made[step.name])
    return list(made.values())


def check_places(plan: Plan, context: RunContext) -> None:
    """Refuse a place into which the plan's results cannot be written.

    Raises:
        SettingsError: If one of its directories cannot be made.
    """
    check_folder(context.out)
    for step in plan.steps:
        check_directory(context.out / plan.place(step))


def named_in_plan(plan: Plan) -> list[str]:
    """Give the networks that a user's pipeline names: its steps may name them again in what they leave."""
    return [plan.backbone.source, *(name for step in plan.steps for name in named_networks(step.settings))]


def run_step(plan: Plan, step: Step, made: Mapping[str, Artifact], context: RunContext) -> Artifact:
    """Run one step, given the results of those before it."""
    kind = STAGES[step.stage]
    if kind.kind == "comparison":
        return compare(step.stage, kind.function, step.settings, {name: made[name] for name in step.models}, context)
    source = source_of(plan, step, made)
    return transform(kind, step.settings, source, data_of(plan, step), context)


def source_of(plan: Plan, step: Step, made: Mapping[str, Artifact]) -> Source:
    """What a step starts from, given the results of those before it.

    Raises:
        ModelFileError: If it is a ticket or an adapter that cannot be read.
    """
    if STAGES[step.stage].kind == "ticket":
        return read_ticket(Path(step.file) if step.file else made[step.source].path)
    base = made[step.source] if step.source else plan.backbone
    return Adapted(base, read_adapter(Path(step.file))) if STAGES[step.stage].kind == "adapter" else base


def data_of(plan: Plan, step: Step) -> list[DataSettings]:
    """The tasks that a step takes."""
    return [plan.data[name] for name in step.tasks] or list(plan.data.values())


def check(plan: Plan, context: RunContext) -> None:
    """Check all that can be without running: places, settings, networks, tickets, and that data are there.

    Raises:
        EffxferError: As `run` does before its first step.
    """
    from effxfer.train.devices import pick_device

    check_places(plan, context)
    check_writable(context.out)
    pick_device(context.device)
    with trusting_sources(*named_in_plan(plan)):
        check_options(plan, context)


def check_options(plan: Plan, context: RunContext) -> None:
    """Check what needs heavy imports or other files to be checked, before the first step that has work to do.

    Raises:
        SettingsError: With every strategy that does not exist or does not take its options, and every network that
            its library does not know.
        DataError: If data are absent or cannot be trained on.
        ModelFileError: If a ticket, a model directory or a weights file that is named cannot be read.
    """
    if all((context.out / plan.place(step) / MANIFEST).is_file() for step in plan.steps):
        return
    if wrong := mistakes(plan):
        raise SettingsError(f"{plan.name}: {joined(wrong)}", code="E201")
    check_backbone(plan.backbone)
    keep_out_of(context.out, list(plan.data.values()))
    for task in plan.data.values():
        scan(task, cache=context.cache)


def mistakes(plan: Plan) -> list[str]:
    """Say what is wrong with the settings of a plan's steps, a sentence for each step.

    Raises:
        ModelFileError: If a ticket, a model directory or a weights file that one names cannot be read.
    """
    wrong = []
    for step in plan.steps:
        try:
            check_settings(step.settings, _recipe(plan, step))
        except SettingsError as error:
            wrong.append(f"stage {step.name!r}: {error.problem}")
    return wrong


def _recipe(plan: Plan, step: Step) -> Mapping[str, Any] | None:
    """How the ticket was trained that a step trains: by its file, or as the step before it is told.

    Raises:
        ModelFileError: If a ticket or an adapter that is named cannot be read.
    """
    kind = STAGES[step.stage].kind
    if kind == "adapter":
        read_adapter(Path(step.file))
    if kind == "ticket" and step.file:
        return read_ticket(Path(step.file)).facts.recipe
    found = next((one.settings.plain() for one in plan.steps if one.name == step.source), {})
    return {"settings": found} if kind == "ticket" else None


def statuses(plan: Plan, context: RunContext) -> list[dict[str, str]]:
    """Say of every step how it stands.

    It is `done`, `running`, `cut off`, `stale` (made from other inputs), `altered` (not what was written) or `to do`.
    Of a run that is on, the first step that is not done is running, also while its inputs are still looked at.
    """
    check_places(plan, context)
    rows, made = [], dict[str, Artifact]()
    for step in plan.steps:
        here = replace(context, out=context.out / plan.place(step))
        state = _status(plan, step, made, here)
        rows.append(
            {
                "step": plan.place(step),
                "stage": step.stage,
                "state": state,
                "from": ", ".join(step.models) or step.source or step.file or "backbone",
            }
        )
    undone = [row for row in rows if row["state"] != "done"]
    if undone and is_locked(context.out) and all(row["state"] != "running" for row in undone):
        undone[0]["state"] = "running"
    return rows


def _status(plan: Plan, step: Step, made: dict[str, Artifact], context: RunContext) -> str:
    if is_locked(context.work_dir):
        return "running"
    needed = step.models or ((step.source,) if step.source else ())
    if (context.out / MANIFEST).is_file():
        try:
            there = Artifact.load(context.out)
        except ModelFileError:
            return "altered"
        if all(name in made for name in needed) and there.manifest.key == expected_key(plan, step, made, context):
            made[step.name] = there
            return "done"
        return "stale"
    return "cut off" if context.work_dir.is_dir() else "to do"


def expected_key(plan: Plan, step: Step, made: Mapping[str, Artifact], context: RunContext) -> str:
    """The key that a step's result would have."""
    if STAGES[step.stage].kind == "comparison":
        return comparison_key(step.stage, step.settings, {name: made[name] for name in step.models})
    return stage_key(step.stage, step.settings, source_of(plan, step, made), data_of(plan, step), context)


def conclusion(plan: Plan, made: Sequence[Artifact]) -> Report:
    """What a run comes to: how the networks fared stage by stage, and the models of its last comparison."""
    pairs = list(zip(plan.steps, made, strict=True))
    compared = [one for step, one in pairs if STAGES[step.stage].kind == "comparison"]
    rows = tuple(
        _fared(plan.place(step), one.manifest.report) for step, one in pairs if STAGES[step.stage].kind in MAKES_NET
    )
    last = compared[-1].manifest.report if compared else Report()
    return Report(tables=(Table(title="Networks, stage by stage", rows=rows), *last.tables[:1]), notes=last.notes)


def _fared(place: str, report: Report) -> dict[str, Any]:
    return {
        "stage": place,
        "accuracy val %": report.get("accuracy/val"),
        "accuracy test %": report.get("accuracy/test"),
        "zeros of prunable %": report.get("sparsity/prunable"),
        "multiply-adds M": report.get("macs/after"),
        "parameters M": report.get("parameters/after"),
    }


def publish(plan: Plan, made: Sequence[Artifact], context: RunContext, command: str) -> Path:
    """Write `report.html` for a run that is done, unless it is there already as it was written."""
    from effxfer.page.page import Section, is_intact, write_page

    page = context.out / f"report-{digest([one.manifest.key for one in made], 8)}.html"
    if is_intact(page):
        return page
    from effxfer.benchmark.machine.facts import facts

    end = conclusion(plan, made)
    sections = [
        Section(title=f"{plan.place(step)} ({step.stage})", report=one.manifest.report)
        for step, one in zip(plan.steps, made, strict=True)
    ]
    shipped = next((n.removeprefix(SHIP) for n in end.notes if n.startswith(SHIP)), "")
    summary = end.tables[-1]
    return write_page(
        page, title=f"{plan.name} on {', '.join(plan.data)}", sections=sections, summary=summary,
        facts=facts(), chosen=shipped, command=command,
    )  # fmt: skip
