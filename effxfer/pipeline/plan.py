"""A pipeline's plan: its TOML file, checked; every mistake at once.

    [data]                      which images
    [backbone]                  which pretrained network
    [[stage]]                   what to do; each stage starts from the result of the one before it, or of `from`

See `pipelines/` for examples.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from effxfer.artifact import bundled
from effxfer.data.settings import DataSettings
from effxfer.errors import SettingsError, did_you_mean, joined, short
from effxfer.net.settings import BackboneSettings
from effxfer.settings import build, problems
from effxfer.stages import STAGES, stage_of
from effxfer.stages.settings.base import StageSettings
from effxfer.toml import parse_value, read_toml, split_key

MAKES_NET = ("adapter", "network", "ticket")
MOST_STAGES = 500
NAME_BYTES = 100  # with a number before it, and the prefixes of unfinished work, it is a directory's name of up to 255
RESERVED = ("run", "name", "from", "tasks", "models", "file")


@dataclass(frozen=True, kw_only=True)
class Step:
    """One stage of a plan.

    Attributes:
        name: Unique within the plan; its directory is called so, after its number.
        stage: A key of `STAGES`.
        settings: Checked.
        source: Name of the step it starts from, or whose ticket it trains; empty for the backbone, or for `file`.
        file: A ticket to train, as `ticket.safetensors` or a directory that holds one; empty is that of `source`. Or
            the adapter to put on `source`.
        models: Names of the steps that a `bench` compares.
        tasks: Names of the tasks it takes, in order.
    """

    name: str
    stage: str
    settings: StageSettings
    source: str
    file: str
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
    with suppress(OSError, ValueError):  # of a name that is too long, or has a NUL byte
        if path.exists() and not (path.is_dir() and path.name in shipped):
            return path
    if path.stem in shipped:
        return shipped[path.stem]
    hint = f"shipped pipelines: {', '.join(shipped)}"
    raise SettingsError(f"no pipeline {short(str(file))!r}{did_you_mean(short(path.stem), shipped)}", hint)


def preset(name: str) -> Path:
    """Find a preset: a shipped pipeline for a purpose.

    Raises:
        SettingsError: With the names there are.
    """
    known = {path.stem: path for path in sorted((bundled("pipelines") / "presets").glob("*.toml"))}
    if name not in known:
        raise SettingsError(f"no preset {name!r}{did_you_mean(name, known)}", f"presets: {', '.join(known)}")
    return known[name]


def change(table: dict[str, Any], text: str) -> None:
    """Set one value of a pipeline's table from `KEY=VALUE`.

    Raises:
        SettingsError: If it is not of that form, or there is no such table.
    """
    key, mark, value = text.partition("=")
    path = split_key(key)
    if not mark or len(path) < 2:
        raise SettingsError(f"{short(text)!r} is not KEY=VALUE with a dotted key", "such as dense.fit.epochs=3")
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
        f"unknown table {short(key)!r}{did_you_mean(short(key), ['backbone', 'data', 'stage'])}"
        for key in table if key not in ("backbone", "data", "stage")
    ]  # fmt: skip
    data = _data(table.get("data", {}), mistakes)
    mistakes += [f"[backbone] {m}" for m in problems(BackboneSettings, table.get("backbone", {}))]
    steps = _steps(table, data, seed, mistakes)
    if mistakes:
        hint = "change one value by the stage's name, such as `dense.fit.epochs=3`"
        raise SettingsError(f"{name}: {joined(mistakes)}", hint, code="E201")
    return Plan(name=name, backbone=build(BackboneSettings, table["backbone"], "[backbone]"), data=data, steps=steps)


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
    if len(tables) > MOST_STAGES:
        mistakes.append(f"there are {len(tables)} stages: at most {MOST_STAGES}")
        return ()
    before: dict[str, str] = {}
    for one in tables:
        name, wrong = name_of(one), list[str]()
        step = _step(one, before, data, seed, wrong)
        mistakes += [f"stage {short(name)!r}: {text}" for text in wrong]
        if step:
            steps.append(step)
        before[name] = step.stage if step else ""
    return tuple(steps)


def _step(
    table: Mapping[str, Any], before: Mapping[str, str], data: Mapping[str, DataSettings], seed: int | None,
    wrong: list[str],
) -> Step | None:  # fmt: skip
    """Check one stage.

    Args:
        table: Of the stage.
        before: Stages of the steps before it, by name; empty for those that are wrong.
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
    file = _file(table, kind.kind, links["from"], wrong)
    if kind.kind == "comparison" and not links["models"]:
        wrong.append("there is nothing to compare: put an `export` before it")
    if wrong:
        return None
    nets = [known for known in links["from"] if _kind(before[known]) in MAKES_NET]
    nets = [] if file and kind.kind == "ticket" else nets
    return Step(
        name=name, stage=stage, settings=build(kind.settings, own, f"stage {name!r}"), tasks=given["tasks"],
        source=(*nets[-1:], *given["from"])[-1] if nets or given["from"] else "",
        models=given["models"] or links["models"], file=file,
    )  # fmt: skip


def _links(kind: str, before: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """What steps before it may be to a step: it compares exports, trains the ticket of one, or takes its network."""
    if kind == "comparison":
        return {"models": tuple(n for n, was in before.items() if _kind(was) in ("files", "unknown")), "tasks": ()}
    if kind == "ticket":
        return {"from": tuple(name for name, was in before.items() if not was or STAGES[was].leaves_ticket)}
    return {"from": tuple(name for name, was in before.items() if _kind(was) != "comparison")}


def _kind(stage: str) -> str:
    return STAGES[stage].kind if stage else "unknown"


def _file(table: Mapping[str, Any], kind: str, tickets: Sequence[str], wrong: list[str]) -> str:
    """What a table says under `file`, which only a stage has that trains a ticket or puts an adapter on."""
    file: object = table.get("file", "")
    if not isinstance(file, str) or ("file" in table and (kind not in ("adapter", "ticket") or not file)):
        wrong.append(f"file is the name of a ticket or an adapter, for stages that take one, not {file!r}")
        return ""
    if kind == "adapter" and not file:
        wrong.append("there is no adapter to put on: give its `file`")
    if kind == "ticket" and file and "from" in table:
        wrong.append("give either file or from")
    if kind == "ticket" and not file and not tickets:
        wrong.append("there is no ticket to train: give its `file`, or put a `prune` before it that finds one")
    return file


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
    if len(name.encode(errors="replace")) > NAME_BYTES:
        wrong.append(f"a name has at most {NAME_BYTES} bytes: it is part of a directory's")
    if name in ("data", "backbone"):
        wrong.append("another table is called so: give it another `name`")
    if name in before:
        wrong.append(f"two stages are called {name!r}: give one another `name`")
