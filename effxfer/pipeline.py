"""A pipeline: stages in a TOML file, run in order, each into its own directory; what is done is skipped.

    [data]                      which images
    [backbone]                  which pretrained network
    [[stage]]                   what to do; each stage starts from the result of the one before it, or of `from`

See `pipelines/` for examples.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from effxfer.artifact import MANIFEST, Artifact, bundled
from effxfer.data.settings import DataSettings
from effxfer.errors import SettingsError, did_you_mean
from effxfer.files import digest, is_locked
from effxfer.net.settings import BackboneSettings
from effxfer.report import Report, Table
from effxfer.settings import Settings, build, parse_value, problems, read_toml
from effxfer.stages import STAGES, stage_of
from effxfer.stages.run import Where, compare, compare_key, key_of, transform
from effxfer.stages.settings import SHIP

RESERVED = ("run", "name", "from", "tasks", "models")


@dataclass(frozen=True, kw_only=True)
class Step:
    """One stage of a plan.

    Attributes:
        name: Unique within the plan; its directory is called so, after its number.
        stage: A key of `STAGES`.
        settings: Checked.
        source: Name of the step it starts from; empty for the backbone.
        models: Names of the steps that a `bench` compares.
        tasks: Names of the tasks it takes, in order.
    """

    name: str
    stage: str
    settings: Settings
    source: str
    models: tuple[str, ...]
    tasks: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A checked pipeline.

    Attributes:
        name: The file's.
        backbone: Where it starts.
        data: The tasks by name.
        steps: In order.
    """

    name: str
    backbone: BackboneSettings
    data: Mapping[str, DataSettings]
    steps: tuple[Step, ...]

    def place(self, step: Step) -> str:
        """The name of a step's directory."""
        return f"{self.steps.index(step) + 1}-{step.name}"


def read_plan(
    file: str | Path, *, data: str = "", backbone: str = "", seed: int | None = None, changes: Sequence[str] = ()
) -> Plan:
    """Read and check a pipeline.

    Args:
        file: A TOML file, or the name of one that comes with this package.
        data: Replaces `data.source`.
        backbone: Replaces `backbone.source`.
        seed: Replaces the seed of every stage.
        changes: `KEY=VALUE` with a dotted key: `data.val_fraction=0.2`, `dense.fit.epochs=3` (by the step's name).

    Raises:
        SettingsError: With every mistake in the file and the changes.
    """
    path = locate(file)
    table = read_toml(path)
    for key, value in [("data.source", data), ("backbone.source", backbone)]:
        if value:
            change(table, f"{key}={value!r}")
    for text in changes:
        change(table, text)
    return check_plan(path.stem, table, seed)


def locate(file: str | Path) -> Path:
    """Find a pipeline by path, or by the name of one that comes with this package.

    Raises:
        SettingsError: With the names there are.
    """
    shipped = {path.stem: path for path in sorted(bundled("pipelines").glob("*.toml"))}
    path = Path(file)
    if path.is_file():
        return path
    if path.stem in shipped:
        return shipped[path.stem]
    hint = f"shipped pipelines: {', '.join(shipped)}"
    raise SettingsError(f"no pipeline {str(file)!r}{did_you_mean(path.stem, shipped)}", hint)


def change(table: dict[str, Any], text: str) -> None:
    """Set one value of a pipeline's table from `KEY=VALUE`.

    Raises:
        SettingsError: If it is not of that form, or there is no such table.
    """
    key, mark, value = text.partition("=")
    path = key.strip().split(".")
    if not mark or len(path) < 2:
        raise SettingsError(f"{text!r} is not KEY=VALUE with a dotted key", "such as dense.fit.epochs=3")
    steps = {str(s.get("name", s.get("run"))): s for s in table.get("stage", [])}
    roots = {"data": table.setdefault("data", {}), "backbone": table.setdefault("backbone", {}), **steps}
    if path[0] not in roots:
        raise SettingsError(f"no table {path[0]!r}{did_you_mean(path[0], roots)}", f"tables: {', '.join(roots)}")
    place = roots[path[0]]
    for part in path[1:-1]:
        place = place.setdefault(part, {})
    place[path[-1]] = parse_value(value.strip())


def check_plan(name: str, table: Mapping[str, Any], seed: int | None = None) -> Plan:
    """Turn a pipeline's table into a plan.

    Raises:
        SettingsError: With every mistake of every table.
    """
    mistakes = [
        f"unknown table {key!r}{did_you_mean(key, ['backbone', 'data', 'stage'])}"
        for key in table if key not in ("backbone", "data", "stage")
    ]  # fmt: skip
    data = table.get("data", {})
    data = data if isinstance(data, list) else [data]
    for number, one in enumerate(data):
        mistakes += [f"[data] {m}" for m in problems(DataSettings, one)] if one else [f"[data] {number} is missing"]
    mistakes += [f"[backbone] {m}" for m in problems(BackboneSettings, table.get("backbone", {}))]
    steps = _steps(table.get("stage", []), seed, mistakes)
    if mistakes:
        raise SettingsError(
            f"{name}: " + "; ".join(mistakes), "`effxfer run --help` shows how to change one value", code="E201"
        )
    tasks = {d.name or Path(d.source).stem: d for d in (build(DataSettings, one, "[data]") for one in data)}
    return Plan(name=name, backbone=build(BackboneSettings, table["backbone"], "[backbone]"), data=tasks, steps=steps)


def run(plan: Plan, where: Where, tell: Callable[[Step, Artifact], None] = lambda _step, _made: None) -> list[Artifact]:
    """Run every step that is not done yet.

    Args:
        plan: What to do.
        where: `out` receives `1-dense/`, `2-ticket/` and so on.
        tell: Called with each step and its result, done now or before.

    Returns:
        The results, in order.
    """
    check_options(plan, where)
    made: dict[str, Artifact] = {}
    for step in plan.steps:
        here = replace(where, out=where.out / plan.place(step))
        made[step.name] = run_step(plan, step, made, here)
        tell(step, made[step.name])
    return list(made.values())


def run_step(plan: Plan, step: Step, made: Mapping[str, Artifact], where: Where) -> Artifact:
    """Run one step, given the results of those before it."""
    kind = STAGES[step.stage]
    if kind.kind == "times":
        return compare(step.stage, kind.find, step.settings, {name: made[name] for name in step.models}, where)
    source = made[step.source] if step.source else plan.backbone
    return transform(step.stage, kind.find, step.settings, source, data_of(plan, step), where)


def data_of(plan: Plan, step: Step) -> list[DataSettings]:
    """The tasks that a step takes."""
    return [plan.data[name] for name in step.tasks] or list(plan.data.values())


def check_options(plan: Plan, where: Where) -> None:
    """Check what needs heavy imports to be checked, before the first step that has work to do.

    Raises:
        SettingsError: If a strategy does not exist or does not take its options.
    """
    if all((where.out / plan.place(step) / MANIFEST).is_file() for step in plan.steps):
        return
    from effxfer.stages.finetune import choose

    for step in plan.steps:
        strategy = getattr(step.settings, "strategy", None)
        if strategy:
            choose(strategy, getattr(step.settings, "options", {}))


def statuses(plan: Plan, where: Where) -> list[dict[str, str]]:
    """Say of every step whether it is `done`, `running`, `cut off`, `stale` (made from other inputs) or `to do`."""
    rows, made = [], dict[str, Artifact]()
    for step in plan.steps:
        here = replace(where, out=where.out / plan.place(step))
        state = _status(plan, step, made, here)
        rows.append({"step": plan.place(step), "stage": step.stage, "state": state, "from": step.source or "backbone"})
    return rows


def _status(plan: Plan, step: Step, made: dict[str, Artifact], where: Where) -> str:
    if is_locked(where.work):
        return "running"
    needed = step.models or ((step.source,) if step.source else ())
    if (where.out / MANIFEST).is_file():
        there = Artifact.load(where.out)
        if all(name in made for name in needed) and there.manifest.key == expected_key(plan, step, made, where):
            made[step.name] = there
            return "done"
        return "stale"
    return "cut off" if where.work.is_dir() else "to do"


def expected_key(plan: Plan, step: Step, made: Mapping[str, Artifact], where: Where) -> str:
    """The key that a step's result would have."""
    if STAGES[step.stage].kind == "times":
        return compare_key(step.stage, step.settings, {name: made[name] for name in step.models})
    source = made[step.source] if step.source else plan.backbone
    return key_of(step.stage, step.settings, source, data_of(plan, step), where)


def conclusion(plan: Plan, made: Sequence[Artifact]) -> Report:
    """What a run comes to: how the networks fared stage by stage, and the models of its last comparison."""
    pairs = list(zip(plan.steps, made, strict=True))
    compared = [one for step, one in pairs if STAGES[step.stage].kind == "times"]
    rows = tuple(
        _fared(plan.place(step), one.manifest.report) for step, one in pairs if STAGES[step.stage].kind == "net"
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


def publish(plan: Plan, made: Sequence[Artifact], where: Where, command: str) -> Path:
    """Write `report.html` for a run that is done, unless it is there already."""
    page = where.out / f"report-{digest([one.manifest.key for one in made], 8)}.html"
    if page.is_file():
        return page
    from effxfer.bench.machine import facts
    from effxfer.page.page import Section, write_page

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


def _steps(tables: Sequence[Mapping[str, Any]], seed: int | None, mistakes: list[str]) -> tuple[Step, ...]:
    steps: list[Step] = []
    if not tables:
        mistakes.append("there is no [[stage]]")
    for table in tables:
        try:
            steps.append(_step(table, steps, seed))
        except SettingsError as error:
            mistakes.append(error.problem)
    return tuple(steps)


def _step(table: Mapping[str, Any], before: Sequence[Step], seed: int | None) -> Step:
    stage = stage_of(table)
    kind = STAGES[stage]
    name = str(table.get("name", stage.split()[0]))
    own = {k: v for k, v in table.items() if k not in RESERVED}
    if seed is not None and "seed" in kind.settings.model_fields:
        own["seed"] = seed
    settings = build(kind.settings, own, f"stage {name!r}")
    if name in {step.name for step in before}:
        raise SettingsError(f"two stages are called {name!r}: give one another `name`")
    exports = [step.name for step in before if STAGES[step.stage].kind == "files"]
    nets = [step.name for step in before if STAGES[step.stage].kind == "net"]
    source = _known(str(table.get("from", nets[-1] if nets else "")), [step.name for step in before], name)
    models = tuple(_known(str(m), exports, name) for m in table.get("models", exports))
    if kind.kind == "times" and not models:
        raise SettingsError(f"stage {name!r} has nothing to compare: put an `export` before it")
    return Step(
        name=name, stage=stage, settings=settings, source=source, models=models, tasks=tuple(table.get("tasks", ())),
    )  # fmt: skip


def _known(name: str, known: Sequence[str], where: str) -> str:
    if name and name not in known:
        raise SettingsError(f"stage {where!r}: no earlier stage {name!r}{did_you_mean(name, known)}")
    return name
