"""Run a pipeline: stages of a TOML file, in order, each in its own directory; finished stages are skipped."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from effxfer.artifact import MANIFEST, Artifact
from effxfer.data.history import History
from effxfer.data.load import scan
from effxfer.data.settings import DataSettings
from effxfer.errors import ModelFileError, SettingsError, join_sentences
from effxfer.files import digest, remove_abandoned
from effxfer.net.backbones.trust import trust_sources
from effxfer.pipeline.graph import linked_steps
from effxfer.pipeline.parallel import Schedule, check_jobs, threads_per_job
from effxfer.pipeline.plan import NETWORK_KINDS, Plan, Step, read_plan
from effxfer.pipeline.ray_cluster import RayCluster
from effxfer.pipeline.teachers import settings_to_check, settings_with_teacher
from effxfer.process.folder_lock import is_locked, lock_folder
from effxfer.process.pool import ChildPool, Executor
from effxfer.process.rank import leads
from effxfer.process.scratch import scratch_folder
from effxfer.report import Report, Table
from effxfer.stages import STAGES
from effxfer.stages.runner.checks import check_backbone, check_settings
from effxfer.stages.runner.context import RunContext
from effxfer.stages.runner.key import comparison_key, stage_key
from effxfer.stages.runner.output_dir import check_directory, check_folder, check_writable, keep_out_of
from effxfer.stages.runner.run import compare, named_networks, transform
from effxfer.stages.runner.source import AdapterOnBase, Source, read_adapter, read_ticket
from effxfer.stages.settings.common import PICTURES, SHIP

MOST_PICTURE = 2**20  # bytes; one of effxfer has a tenth of it, and a page holds them all

__all__ = ["Plan", "Step", "check", "check_options", "publish", "read_plan", "run", "statuses", "summarize_run"]


def run(
    plan: Plan, context: RunContext, tell: Callable[[Step, Artifact], None] = lambda _step, _artifact: None, *,
    shares: Mapping[str, float] = MappingProxyType({}), jobs: int = 1, cluster: str = "",
) -> list[Artifact]:  # fmt: skip
    """Run every step that is not finished.

    Args:
        plan: The pipeline.
        context: Its `out` receives `1-dense/`, `2-ticket/` and so on.
        tell: Called with each step and its result, new or existing.
        shares: Time for each step, by its name, in seconds. The next step gets the time that a step leaves unused, and
            loses the time by which it is late. With several `jobs` each step has its own share.
        jobs: How many steps run side by side, each in a process of its own with its share of the cores; see
            `parallel.Schedule`. 1 runs them in this process.
        cluster: Address of a Ray cluster to run them on, see `ray_cluster.RayCluster`; empty: this machine.

    Returns:
        The results, in order.

    Raises:
        SettingsError: If `jobs` is not possible here.
        LockedError: If another run works in `context.out`.
    """
    results: dict[str, Artifact] = {}
    check_jobs(jobs)
    check_places(plan, context)
    # One process holds the lock: under torchrun the others would find it taken.
    with lock_folder(context.out) if leads() else nullcontext(), trust_sources(*named_in_plan(plan)):
        check_options(plan, context)
        if jobs > 1 or cluster:
            return run_side_by_side(plan, context, tell, jobs, cluster)
        began, due = time.monotonic(), 0.0
        for step in plan.steps:
            extra = due - (time.monotonic() - began) if shares else 0.0
            step_context = replace(context, out=context.out / plan.place(step), extra_seconds=extra)
            # Before it runs: a finished step costs no time and leaves none, so that the
            # clock of the next one starts anew.
            existed = (step_context.out / MANIFEST).is_file()
            results[step.name] = run_step(plan, step, results, step_context)
            due = time.monotonic() - began if existed else due + shares.get(step.name, 0.0)
            tell(step, results[step.name])
    return list(results.values())


def run_side_by_side(
    plan: Plan, context: RunContext, tell: Callable[[Step, Artifact], None], jobs: int, cluster: str
) -> list[Artifact]:  # fmt: skip
    """Run the steps in child processes, as many as `jobs` at a time, or on a cluster."""

    def load(step: Step, results: Mapping[str, Artifact]) -> Artifact | None:
        step_context = replace(context, out=context.out / plan.place(step))
        finished = _status(plan, step, dict(results), step_context) == "done"
        return run_step(plan, step, results, step_context) if finished else None

    # Before any child writes: then none of them meets the remains of an earlier run.
    remove_abandoned(context.out, deep=False)
    threads = threads_per_job(jobs)
    with ExitStack() as stack:
        executor: Executor
        if cluster:
            executor = stack.enter_context(RayCluster(cluster, threads=threads))
        else:
            executor = stack.enter_context(
                ChildPool(stack.enter_context(scratch_folder()), size=jobs, threads=threads)
            )  # fmt: skip
        return Schedule(plan=plan, context=context, executor=executor, load=load, tell=tell).run()


def check_places(plan: Plan, context: RunContext) -> None:
    """Check that the directories of the plan's results can be created.

    Raises:
        SettingsError: If one of them cannot.
    """
    check_folder(context.out)
    for step in plan.steps:
        check_directory(context.out / plan.place(step))


def named_in_plan(plan: Plan) -> list[str]:
    """Return the networks that a pipeline names; artifacts of its steps may refer to them again."""
    return [plan.backbone.source, *(name for step in plan.steps for name in named_networks(step.settings))]


def run_step(plan: Plan, step: Step, results: Mapping[str, Artifact], context: RunContext) -> Artifact:
    """Run one step, given the results of the previous ones."""
    kind = STAGES[step.stage]
    if kind.kind == "comparison":
        return compare(step.stage, kind.function, step.settings, {name: results[name] for name in step.models}, context)
    source, settings = source_of(plan, step, results), settings_with_teacher(plan, step, results)
    return transform(kind, settings, source, data_of(plan, step), context)


def source_of(plan: Plan, step: Step, results: Mapping[str, Artifact]) -> Source:
    """Return the source that a step starts from, given the results of the previous ones.

    Raises:
        ModelFileError: If it is a ticket or an adapter that cannot be read.
    """
    if STAGES[step.stage].kind == "ticket":
        return read_ticket(Path(step.file) if step.file else results[step.source].path)
    base = results[step.source] if step.source else plan.backbone
    return AdapterOnBase(base, read_adapter(Path(step.file))) if STAGES[step.stage].kind == "adapter" else base


def data_of(plan: Plan, step: Step) -> list[DataSettings]:
    """Return the tasks of a step."""
    return [plan.data[name] for name in step.tasks] or list(plan.data.values())


def check(plan: Plan, context: RunContext) -> None:
    """Check a plan without running it: directories, settings, networks, tickets and data.

    Raises:
        EffxferError: The errors that `run` raises before its first step.
    """
    from effxfer.train.devices import pick_device

    check_places(plan, context)
    check_writable(context.out)
    pick_device(context.device)
    with trust_sources(*named_in_plan(plan)):
        check_options(plan, context)


def check_options(plan: Plan, context: RunContext) -> None:
    """Check what needs heavy imports or other files, unless every step is finished.

    Raises:
        SettingsError: If strategies are unknown or do not take their options, or networks are unknown to their
            library; the error lists all.
        DataError: If data are absent or cannot be trained on.
        ModelFileError: If a named ticket, model directory or weights file cannot be read.
    """
    if all((context.out / plan.place(step) / MANIFEST).is_file() for step in plan.steps):
        return
    if wrong := mistakes(plan):
        raise SettingsError(f"{plan.name}: {join_sentences(wrong)}", code="E201")
    check_backbone(plan.backbone)
    keep_out_of(context.out, list(plan.data.values()))
    # A later task of a stream may have a single class; the stage itself looks at the first one.
    history = History(keeps_classes=any(step.settings.in_time for step in plan.steps))
    for task in plan.data.values():
        scan(task, cache=context.cache, history=history)


def mistakes(plan: Plan) -> list[str]:
    """List the mistakes in the settings of a plan's steps, a sentence for each step.

    Raises:
        ModelFileError: If a named ticket, model directory or weights file cannot be read.
    """
    wrong = []
    for step in plan.steps:
        try:
            check_settings(settings_to_check(plan, step), _ticket_recipe(plan, step))
        except SettingsError as error:
            wrong.append(f"stage {step.name!r}: {error.problem}")
    return wrong


def _ticket_recipe(plan: Plan, step: Step) -> Mapping[str, Any] | None:
    """Return the recipe of the ticket that a step trains, from its file or from the settings of its source.

    Raises:
        ModelFileError: If a named ticket or adapter cannot be read.
    """
    kind = STAGES[step.stage].kind
    if kind == "adapter":
        read_adapter(Path(step.file))
    if kind == "ticket" and step.file:
        return read_ticket(Path(step.file)).facts.recipe
    earlier = next((one.settings.plain() for one in plan.steps if one.name == step.source), {})
    return {"settings": earlier} if kind == "ticket" else None


def statuses(plan: Plan, context: RunContext) -> list[dict[str, str]]:
    """Return the state of every step.

    It is `done`, `running`, `cut off`, `stale` (made from other inputs), `altered` (changed after it was written) or
    `to do`. In an active run, the first unfinished step is `running`, even while its inputs are being checked.
    """
    check_places(plan, context)
    rows, results = [], dict[str, Artifact]()
    for step in plan.steps:
        step_context = replace(context, out=context.out / plan.place(step))
        state = _status(plan, step, results, step_context)
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


def _status(plan: Plan, step: Step, results: dict[str, Artifact], context: RunContext) -> str:
    if is_locked(context.work_dir):
        return "running"
    needed = linked_steps(plan, step)
    if (context.out / MANIFEST).is_file():
        try:
            artifact = Artifact.load(context.out)
        except ModelFileError:
            return "altered"
        if all(name in results for name in needed) and artifact.manifest.key == expected_key(
            plan, step, results, context
        ):
            results[step.name] = artifact
            return "done"
        return "stale"
    return "cut off" if context.work_dir.is_dir() else "to do"


def expected_key(plan: Plan, step: Step, results: Mapping[str, Artifact], context: RunContext) -> str:
    """Return the key that a step's result would have."""
    if STAGES[step.stage].kind == "comparison":
        return comparison_key(step.stage, step.settings, {name: results[name] for name in step.models})
    settings = settings_with_teacher(plan, step, results)
    return stage_key(step.stage, settings, source_of(plan, step, results), data_of(plan, step), context)


def summarize_run(plan: Plan, results: Sequence[Artifact]) -> Report:
    """Summarize a run: accuracy and size of the networks by stage, and the models of its last comparison."""
    pairs = list(zip(plan.steps, results, strict=True))
    compared = [one for step, one in pairs if STAGES[step.stage].kind == "comparison"]
    networks = [(step, one.manifest.report) for step, one in pairs if STAGES[step.stage].kind in NETWORK_KINDS]
    metric = networks[-1][1].metric if networks else ""
    rows = tuple(_network_row(plan.place(step), report, metric) for step, report in networks)
    last = compared[-1].manifest.report if compared else Report()
    return Report(tables=(Table(title="Networks, stage by stage", rows=rows), *last.tables[:1]), notes=last.notes)


def _network_row(place: str, report: Report, metric: str) -> dict[str, Any]:
    return {
        "stage": place,
        f"{metric} val %": report.get(f"{metric}/val"),
        f"{metric} test %": report.get(f"{metric}/test"),
        "zeros of prunable %": report.get("sparsity/prunable"),
        "multiply-adds M": report.get("macs/after"),
        "parameters M": report.get("parameters/after"),
    }


def picture_of(artifact: Artifact) -> bytes:
    """Return the picture that a stage has made for the page; empty if there is none, or too large a one."""
    file = artifact.path / PICTURES
    if PICTURES not in artifact.manifest.files or not file.is_file() or file.stat().st_size > MOST_PICTURE:
        return b""
    return file.read_bytes()


def publish(plan: Plan, results: Sequence[Artifact], context: RunContext, command: str) -> Path:
    """Write the report page of a finished run, unless an intact one exists."""
    from effxfer.page.page import Section, is_intact, write_page

    # By what it shows: a page of other results has another name, and is not overwritten.
    page = context.out / f"report-{digest([one.manifest.key for one in results], 8)}.html"
    if is_intact(page):
        return page
    from effxfer.benchmark.machine.facts import facts

    end = summarize_run(plan, results)
    sections = [
        Section(title=f"{plan.place(step)} ({step.stage})", report=one.manifest.report, picture=picture_of(one))
        for step, one in zip(plan.steps, results, strict=True)
    ]
    shipped = next((n.removeprefix(SHIP) for n in end.notes if n.startswith(SHIP)), "")
    summary = end.tables[-1]
    return write_page(
        page, title=f"{plan.name} on {', '.join(plan.data)}", sections=sections, summary=summary,
        facts=facts(), chosen=shipped, command=command,
    )  # fmt: skip
