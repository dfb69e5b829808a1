"""Read a pipeline's TOML file into a checked plan; all mistakes are reported at once.

    [data]                      the images
    [backbone]                  the pretrained network
    [[stage]]                   a stage, which starts from the result of the previous one, or of `from`

See `pipelines/` for examples.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from effxfer.data.continual.dated_folders import expand_folders
from effxfer.data.settings import DataSettings
from effxfer.errors import DataError, SettingsError, did_you_mean, join_sentences, shorten
from effxfer.model_source import bundled_folder
from effxfer.net.settings import BackboneSettings
from effxfer.settings import build, problems
from effxfer.stages import STAGES, stage_of
from effxfer.stages.settings.base import StageSettings
from effxfer.toml import parse_value, read_toml, split_key

NETWORK_KINDS = ("adapter", "network", "ticket")
# Chosen: far above any pipeline that a person writes; checks of names grow with the square.
MAX_STAGES = 500
NAME_BYTES = 100  # with a number before it, and the prefixes of unfinished work, it is a directory's name of up to 255
RESERVED = ("run", "name", "from", "tasks", "models", "file")


@dataclass(frozen=True, kw_only=True)
class Step:
    """One stage of a plan.

    Attributes:
        name: Unique name within the plan; its directory is its number and name.
        stage: A key of `STAGES`.
        settings: Checked settings.
        source: Name of the step it starts from, or whose ticket it trains; empty for the backbone, or for `file`.
        file: The ticket to train, as `ticket.safetensors` or its directory; empty for that of `source`. Or the adapter
            to attach to `source`.
        models: Names of the steps that a `bench` compares.
        tasks: Names of its tasks, in order.
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
        name: Name of the file.
        backbone: The pretrained network.
        data: The tasks by name.
        steps: The steps, in order.
    """

    name: str
    backbone: BackboneSettings
    data: Mapping[str, DataSettings]
    steps: tuple[Step, ...]

    def place(self, step: Step) -> str:
        """Return the name of a step's directory."""
        return f"{self.steps.index(step) + 1}-{step.name}"


def read_plan(
    file: str | Path, *, data: str = "", backbone: str = "", seed: int | None = None, changes: Sequence[str] = ()
) -> Plan:
    """Read and check a pipeline.

    Args:
        file: A TOML file, or the name of a shipped pipeline.
        data: Replaces `data.source`.
        backbone: Replaces `backbone.source`.
        seed: Replaces the seed of every stage.
        changes: `KEY=VALUE` with a dotted key: `data.val_fraction=0.2`, `dense.fit.epochs=3` (by the step's name).

    Raises:
        SettingsError: With every mistake in the file and the changes.
    """
    path = find_pipeline(file)
    table = read_toml(path)
    for key, value in [("data", data), ("backbone", backbone)]:
        if value:
            set_value(table, [key, "source"], value)
    for text in changes:
        apply_change(table, text)
    return check_plan(path.stem, table, seed)


def find_pipeline(file: str | Path) -> Path:
    """Find a pipeline by path, or by the name of a shipped one.

    Raises:
        SettingsError: If there is none; the error lists the names.
    """
    shipped = {path.stem: path for path in sorted(bundled_folder("pipelines").glob("*.toml"))}
    path = Path(file)
    # A file of this name comes first; a folder of a shipped pipeline's name, such as an output, does not hide it.
    with suppress(OSError, ValueError):  # of a name that is too long, or has a NUL byte
        if path.exists() and not (path.is_dir() and path.name in shipped):
            return path
    if path.stem in shipped:
        return shipped[path.stem]
    hint = f"shipped pipelines: {', '.join(shipped)}"
    raise SettingsError(f"no pipeline {shorten(str(file))!r}{did_you_mean(shorten(path.stem), shipped)}", hint)


def apply_change(table: dict[str, Any], text: str) -> None:
    """Set one value of a pipeline's table from `KEY=VALUE`.

    Raises:
        SettingsError: If it is not of that form, or there is no such table.
    """
    key, mark, value = text.partition("=")
    path = split_key(key)
    if not mark or len(path) < 2:
        raise SettingsError(f"{shorten(text)!r} is not KEY=VALUE with a dotted key", "such as dense.fit.epochs=3")
    set_value(table, path, parse_value(value.strip()))


def set_value(table: dict[str, Any], path: Sequence[str], value: object) -> None:
    """Set the value behind a path of keys, of which the first is `data`, `backbone` or a step's name.

    Raises:
        SettingsError: If there is no such table, or a part of the path is no table.
    """
    steps = {name_of(one): one for one in tables_of(table)}
    roots = {**steps, "data": table.setdefault("data", {}), "backbone": table.setdefault("backbone", {})}
    if path[0] not in roots:
        raise SettingsError(f"no table {path[0]!r}{did_you_mean(path[0], roots)}", f"tables: {', '.join(roots)}")
    place = roots[path[0]]
    for depth, part in enumerate(path):
        if not isinstance(place, dict):
            kind_of_value = "several tables: change the file" if isinstance(place, list) else f"{place!r}, not a table"
            raise SettingsError(f"cannot set {'.'.join(path)}: {'.'.join(path[:depth])} is {kind_of_value}")
        if depth == len(path) - 1:
            place[part] = value
        elif depth:
            place = place.setdefault(part, {})


def check_plan(name: str, table: Mapping[str, Any], seed: int | None = None) -> Plan:
    """Check a pipeline's table and build its plan.

    Raises:
        SettingsError: With every mistake of every table.
    """
    mistakes = [
        f"unknown table {shorten(key)!r}{did_you_mean(shorten(key), ['backbone', 'data', 'stage'])}"
        for key in table if key not in ("backbone", "data", "stage")
    ]  # fmt: skip
    data = _data(table.get("data", {}), mistakes)
    mistakes += [f"[backbone] {m}" for m in problems(BackboneSettings, table.get("backbone", {}))]
    steps = _steps(table, data, seed, mistakes)
    if mistakes:
        hint = "change one value by the stage's name, such as `dense.fit.epochs=3`"
        raise SettingsError(f"{name}: {join_sentences(mistakes)}", hint, code="E201")
    return Plan(name=name, backbone=build(BackboneSettings, table["backbone"], "[backbone]"), data=data, steps=steps)


def tables_of(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the `[[stage]]` tables of a pipeline, ignoring values that are no tables."""
    stages = table.get("stage", [])
    return [one for one in stages if isinstance(one, dict)] if isinstance(stages, list) else []


def name_of(table: Mapping[str, Any]) -> str:
    """Return the name of a `[[stage]]` table: its `name`, else its `run`."""
    return str(table.get("name", table.get("run", "")))


def _data(tables: object, mistakes: list[str]) -> dict[str, DataSettings]:
    """Build the tasks by name; their mistakes are added to `mistakes`."""
    tasks: dict[str, DataSettings] = {}
    for table in _folders(tables if isinstance(tables, list) else [tables]):
        wrong = problems(DataSettings, table)  # type: ignore[arg-type]
        mistakes += [f"[data] {m}" for m in wrong]
        if not wrong:
            settings = build(DataSettings, table, "[data]")  # type: ignore[arg-type]
            name = settings.name or Path(settings.source).stem
            mistakes += [f"[data] two tasks are called {name!r}: give one another `name`"] if name in tasks else []
            tasks[name] = settings
    return tasks


def _folders(tables: Sequence[object]) -> Iterator[object]:
    """Replace a table whose source is a pattern of folders by one for each; what matches nothing stays as it is."""
    for table in tables:
        try:
            yield from expand_folders(table) if isinstance(table, dict) else [table]
        except DataError:
            yield table


def _steps(
    table: Mapping[str, Any], data: Mapping[str, DataSettings], seed: int | None, mistakes: list[str]
) -> tuple[Step, ...]:
    """Build the steps of a plan; their mistakes are added to `mistakes`."""
    tables, steps = tables_of(table), list[Step]()
    if not tables or len(tables) != len(table["stage"]):
        mistakes.append(
            "there is no stage: write [[stage]], with two brackets" if "stage" in table else "there is no [[stage]]"
        )
        return ()
    if len(tables) > MAX_STAGES:
        mistakes.append(f"there are {len(tables)} stages: at most {MAX_STAGES}")
        return ()
    before: dict[str, str] = {}
    for stage_table in tables:
        name, wrong = name_of(stage_table), list[str]()
        step = _step(stage_table, before, data, seed, wrong)
        mistakes += [f"stage {shorten(name)!r}: {text}" for text in wrong]
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
        table: Table of the stage.
        before: Stages of the previous steps, by name; empty for invalid ones.
        data: The tasks by name.
        seed: Replaces the table's.
        wrong: Receives a sentence for each mistake.

    Returns:
        The step; None if it is invalid.
    """
    name = name_of(table)
    _check_name(name, before, wrong)
    try:
        stage = stage_of(table)
    except SettingsError as error:
        wrong.append(error.problem)
        return None
    kind = STAGES[stage]
    settings = {k: v for k, v in table.items() if k not in RESERVED}
    if seed is not None and "seed" in kind.settings.model_fields:
        settings["seed"] = seed
    wrong += problems(kind.settings, settings)
    links = {"from": (), "models": (), "tasks": tuple(data)} | _links(kind.kind, before)
    linked = {key: _linked_names(table, key, links[key], wrong) for key in links}
    file = _file(table, kind.kind, links["from"], wrong)
    if kind.kind == "comparison" and not links["models"]:
        wrong.append("there is nothing to compare: put an `export` before it")
    if wrong:
        return None
    nets = [known for known in links["from"] if _kind(before[known]) in NETWORK_KINDS]
    nets = [] if file and kind.kind == "ticket" else nets
    return Step(
        name=name, stage=stage, settings=build(kind.settings, settings, f"stage {name!r}"), tasks=linked["tasks"],
        source=(*nets[-1:], *linked["from"])[-1] if nets or linked["from"] else "",
        models=linked["models"] or links["models"], file=file,
    )  # fmt: skip


def _links(kind: str, before: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Return the previous steps that a step may refer to: exports to compare, tickets, or networks."""
    if kind == "comparison":
        return {"models": tuple(n for n, was in before.items() if _kind(was) in ("files", "unknown")), "tasks": ()}
    if kind == "ticket":
        return {"from": tuple(name for name, was in before.items() if not was or STAGES[was].leaves_ticket)}
    return {"from": tuple(name for name, was in before.items() if _kind(was) != "comparison")}


def _kind(stage: str) -> str:
    return STAGES[stage].kind if stage else "unknown"


def _file(table: Mapping[str, Any], kind: str, tickets: Sequence[str], wrong: list[str]) -> str:
    """Return the `file` of a table, which only stages that train a ticket or attach an adapter have."""
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


def _linked_names(table: Mapping[str, Any], key: str, allowed: Sequence[str], wrong: list[str]) -> tuple[str, ...]:
    """Return the names under `from`, `models` or `tasks` of a table, which must be in `allowed`."""
    value = table.get(key, [])
    names = [value] if key == "from" else value
    if key not in table:
        return ()
    if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
        wrong.append(f"{key} should be {'a name' if key == 'from' else 'a list of names'}, not {value!r}")
        return ()
    kind = "task" if key == "tasks" else "earlier stage to take"
    wrong += [f"{key}: no {kind} {one!r}{did_you_mean(one, allowed)}" for one in names if one not in allowed]
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
