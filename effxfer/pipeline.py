"""A pipeline: stages in a TOML file, run in order, each into its own directory; what is done is skipped.

    [data]                      which images
    [backbone]                  which pretrained network
    [[stage]]                   what to do; each stage starts from the result of the one before it, or of `from`

See `pipelines/` for examples.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from effxfer.artifact import MANIFEST, Artifact, bundled
from effxfer.data.settings import DataSettings
from effxfer.errors import SettingsError, did_you_mean
from effxfer.files import digest, is_locked, locked
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
    for key, value in [("data", data), ("backbone", backbone)]:
        if value:
            put(table, [key, "source"], value)
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
    put(table, path, parse_value(value.strip()))


def put(table: dict[str, Any], path: Sequence[str], value: object) -> None:
    """Set the value behind a path of keys, of which the first is `data`, `backbone` or a step's name.

    Raises:
        SettingsError: If there is no such table, or the path leads through something that is none.
    """
    steps = {name_of(one): one for one in tables_of(table)}
    roots = {**steps, "data": table.setdefault("data", {}), "backbone": table.setdefault("backbone", {})}
    if path[0] not in roots:
        raise SettingsError(f"no table {path[0]!r}{did_you_mean(path[0], roots)}", f"tables: {', '.join(roots)}")
    place = roots[path[0]]
    for depth, part in enumerate(path):
        if not isinstance(place, dict):
            what = "several tables: change the file" if isinstance(place, list) else f"{place!r}, not a table"
            raise SettingsError(f"cannot set {'.'.join(path)}: {'.'.join(path[:depth])} is {what}")
        if depth == len(path) - 1:
            place[part] = value
        elif depth:
            place = place.setdefault(part, {})


def check_plan(name: str, table: Mapping[str, Any], seed: int | None = None) -> Plan:
    """Turn a pipeline's table into a plan.

    Raises:
        SettingsError: With every mistake of every table.
    """
    mistakes = [
        f"unknown table {key!r}{did_you_mean(key, ['backbone', 'data', 'stage'])}"
        for key in table if key not in ("backbone", "data", "stage")
    ]  # fmt: skip
    data = _data(table.get("data", {}), mistakes)
    mistakes += [f"[backbone] {m}" for m in problems(BackboneSettings, table.get("backbone", {}))]
    steps = _steps(table, data, seed, mistakes)
    if mistakes:
        raise SettingsError(
            f"{name}: " + "; ".join(mistakes), "`effxfer run --help` shows how to change one value", code="E201"
        )
    return Plan(name=name, backbone=build(BackboneSettings, table["backbone"], "[backbone]"), data=data, steps=steps)


def run(plan: Plan, where: Where, tell: Callable[[Step, Artifact], None] = lambda _step, _made: None) -> list[Artifact]:
    """Run every step that is not done yet.

    Args:
        plan: What to do.
        where: `out` receives `1-dense/`, `2-ticket/` and so on.
        tell: Called with each step and its result, done now or before.

    Returns:
        The results, in order.

    Raises:
        LockedError: If another run works in `where.out`.
    """
    made: dict[str, Artifact] = {}
    with locked(where.out) if leads() else nullcontext():
        check_options(plan, where)
        for step in plan.steps:
            here = replace(where, out=where.out / plan.place(step))
            made[step.name] = run_step(plan, step, made, here)
            tell(step, made[step.name])
    return list(made.values())


def leads() -> bool:
    """Whether this process writes files: always, except under `torchrun`, where only the first one does."""
    return os.environ.get("RANK", "0") == "0"


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


def tables_of(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The `[[stage]]` tables of a pipeline; what is none is left out."""
    stages = table.get("stage", [])
    return [one for one in stages if isinstance(one, dict)] if isinstance(stages, list) else []


def name_of(table: Mapping[str, Any]) -> str:
    """What a `[[stage]]` table is called: its `name`, else what it runs."""
    return str(table.get("name", table.get("run", "")))


def _data(tables: object, mistakes: list[str]) -> dict[str, DataSettings]:
    """The tasks by name; what is wrong with them is added to `mistakes`."""
    tasks: dict[str, DataSettings] = {}
    for table in tables if isinstance(tables, list) else [tables]:
        wrong = problems(DataSettings, table)  # type: ignore[arg-type]
        mistakes += [f"[data] {m}" for m in wrong]
        if not wrong:
            one = build(DataSettings, table, "[data]")  # type: ignore[arg-type]
            name = one.name or Path(one.source).stem
            mistakes += [f"[data] two tasks are called {name!r}: give one another `name`"] if name in tasks else []
            tasks[name] = one
    return tasks


def _steps(
    table: Mapping[str, Any], data: Mapping[str, DataSettings], seed: int | None, mistakes: list[str]
) -> tuple[Step, ...]:
    """The steps of a plan; what is wrong with them is added to `mistakes`."""
    tables, steps = tables_of(table), list[Step]()
    if not tables or len(tables) != len(table["stage"]):
        mistakes.append(
            "there is no stage: write [[stage]], with two brackets" if "stage" in table else "there is no [[stage]]"
        )
        return ()
    before: dict[str, str] = {}
    for one in tables:
        name, wrong = name_of(one), list[str]()
        step = _step(one, before, data, seed, wrong)
        mistakes += [f"stage {name!r}: {text}" for text in wrong]
        if step:
            steps.append(step)
        before[name] = STAGES[step.stage].kind if step else "unknown"
    return tuple(steps)


def _step(
    table: Mapping[str, Any], before: Mapping[str, str], data: Mapping[str, DataSettings], seed: int | None,
    wrong: list[str],
) -> Step | None:  # fmt: skip
    """Check one stage.

    Args:
        table: Of the stage.
        before: Kinds of the steps before it, by name.
        data: The tasks by name.
        seed: Replaces the table's.
        wrong: Receives a sentence for each mistake.

    Returns:
        The step; None if something is wrong with it.
    """
    name = name_of(table)
    _check_name(name, before, wrong)
    try:
        stage = stage_of(table)
    except SettingsError as error:
        wrong.append(error.problem)
        return None
    kind = STAGES[stage]
    own = {k: v for k, v in table.items() if k not in RESERVED}
    if seed is not None and "seed" in kind.settings.model_fields:
        own["seed"] = seed
    wrong += problems(kind.settings, own)
    links = {"from": (), "models": (), "tasks": tuple(data)} | _links(kind.kind, before)
    given = {key: _given(table, key, links[key], wrong) for key in links}
    if kind.kind == "times" and not links["models"]:
        wrong.append("there is nothing to compare: put an `export` before it")
    if wrong:
        return None
    nets = [known for known in links["from"] if before[known] == "net"]
    return Step(
        name=name, stage=stage, settings=build(kind.settings, own, f"stage {name!r}"), tasks=given["tasks"],
        source=(*nets[-1:], *given["from"])[-1] if nets or given["from"] else "",
        models=given["models"] or links["models"],
    )  # fmt: skip


def _links(kind: str, before: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """What the steps before may be to a step: a `bench` compares exports, everything else starts from a network."""
    if kind == "times":
        return {"models": tuple(name for name, was in before.items() if was in ("files", "unknown")), "tasks": ()}
    return {"from": tuple(name for name, was in before.items() if was != "times")}


def _given(table: Mapping[str, Any], key: str, known: Sequence[str], wrong: list[str]) -> tuple[str, ...]:
    """What a table says under `from`, `models` or `tasks`: names that must be known."""
    value = table.get(key, [])
    names = [value] if key == "from" else value
    if key not in table:
        return ()
    if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
        wrong.append(f"{key} should be {'a name' if key == 'from' else 'a list of names'}, not {value!r}")
        return ()
    what = "task" if key == "tasks" else "earlier stage to take"
    wrong += [f"{key}: no {what} {one!r}{did_you_mean(one, known)}" for one in names if one not in known]
    return tuple(names)


def _check_name(name: str, before: Mapping[str, str], wrong: list[str]) -> None:
    if not re.fullmatch(r"[\w-]+", name):
        wrong.append("a name has letters, digits, - and _ only: it is part of a directory's")
    if name in ("data", "backbone"):
        wrong.append("another table is called so: give it another `name`")
    if name in before:
        wrong.append(f"two stages are called {name!r}: give one another `name`")
