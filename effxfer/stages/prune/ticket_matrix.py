"""The ticket x task table (Morcos et al., 2019, https://arxiv.org/abs/1906.02773; Chen et al., 2021, arXiv:2012.06908).

A ticket's accuracy on a task says nothing by itself: beside it stand a random mask that keeps as many weights of each
layer, and the dense network from the same rewind point, trained alike.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from effxfer.artifact import Artifact
from effxfer.data.settings import DataSettings
from effxfer.errors import SettingsError
from effxfer.files import digest
from effxfer.prune.tickets.file import TicketFile
from effxfer.report import Measurement, Report, Table
from effxfer.stages import STAGES
from effxfer.stages.runner.context import RunContext
from effxfer.stages.runner.output_dir import check_folder
from effxfer.stages.runner.run import compare, preview, transform
from effxfer.stages.settings.ticket_settings import Matrix, Ticket

WORDS = {"ticket": "ticket", "random": "random mask", "none": "dense"}
TABLE = "matrix"
SPLITS = {"val": "validation", "test": "test"}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One training: a ticket, or a control of tickets, on a task.

    Attributes:
        tickets: Names of the tickets it belongs to: several that share a rewind point share the dense network.
        source: What is trained.
        settings: How.
        task: Its name.
        data: That task.
        number: Which repeat, from 0.
    """

    tickets: tuple[str, ...]
    source: TicketFile
    settings: Ticket
    task: str
    data: DataSettings
    number: int

    @property
    def place(self) -> str:
        """The name of its directory."""
        kind = {"ticket": "", "random": "-random", "none": "-dense"}[self.settings.mask]
        repeat = f"-{self.number + 1}" if self.number else ""
        return re.sub(r"[^\w.-]+", "-", f"{self.tickets[0]}{kind}-on-{self.task}{repeat}")


def matrix(
    tickets: Mapping[str, TicketFile], tasks: Mapping[str, DataSettings], settings: Matrix, context: RunContext
) -> Artifact:
    """Train every ticket, and its controls, on every task, each into a directory of its own.

    What is done is skipped, and what was cut off goes on, so that a table grows by tickets and tasks.

    Args:
        tickets: By name.
        tasks: By name.
        settings: Which controls, how often, and what differs from the tickets' recipes.
        context: `out` receives a model directory for each training, and `matrix/` with the table.

    Returns:
        The table, made anew from the trained networks.

    Raises:
        SettingsError: If another result is in the way of one of them, before anything is trained.
    """
    planned = cells(tickets, tasks, settings)
    check_folder(context.out)
    outline(planned, context)
    made = {one.place: transform(*_call(one, context)) for one in planned}
    table = RunContext(out=context.out / TABLE, device=context.device, force=True)
    return compare("ticket matrix", lambda: lambda done, _told: tabulate(planned, done), settings, made, table)


def outline(planned: Sequence[Cell], context: RunContext) -> list[dict[str, Any]]:
    """Say of every training what it is and whether it is done; trains nothing."""
    rows = []
    for one in planned:
        seen = preview(*_call(one, context))
        rows.append({"network": one.place, "task": one.task, "done": seen["done"], "images": seen["images"][0]})
    return rows


def cells(tickets: Mapping[str, TicketFile], tasks: Mapping[str, DataSettings], settings: Matrix) -> list[Cell]:
    """List the trainings of a table: task by task, the tickets, their random masks, and what they began as.

    Raises:
        SettingsError: If names are too similar.
    """
    kinds: list[tuple[tuple[str, ...], str]] = [(names, "ticket") for names in zip(tickets, strict=True)]
    if settings.controls:
        kinds += [(names, "random") for names in zip(tickets, strict=True)]
        kinds += [(names, "none") for names in starts(tickets, settings)]
    planned = [
        Cell(
            tickets=names, source=tickets[names[0]], settings=settings.of_cell(mask, number), task=task, data=data,
            number=number,
        )
        for task, data in tasks.items() for names, mask in kinds for number in range(settings.seeds)
    ]  # fmt: skip
    if len({one.place for one in planned}) < len(planned):
        raise SettingsError("two tickets or tasks would have the same directory", "name their files more differently")
    return planned


def starts(tickets: Mapping[str, TicketFile], settings: Matrix) -> list[tuple[str, ...]]:
    """Put tickets together that have one rewind point and are trained alike."""
    found = dict[str, tuple[str, ...]]()
    for name, ticket in tickets.items():
        strategy, options, fit = settings.of_cell("none", 0).training(ticket.facts.recipe)
        key = digest([ticket.facts.start, strategy, options, fit.plain()])
        found[key] = (*found.get(key, ()), name)
    return list(found.values())


def tabulate(planned: Sequence[Cell], done: Mapping[str, Artifact]) -> Report:
    """Lay the accuracies out, a row for each ticket and control, two columns for each task.

    Args:
        planned: What `cells` gave.
        done: The result of each, by its place.
    """
    found = dict[tuple[tuple[str, ...], str, str], list[Report]]()
    for one in planned:
        reports = found.setdefault((one.tickets, one.settings.mask, one.task), [])
        reports.append(done[one.place].manifest.report)
    tasks = tuple(dict.fromkeys(one.task for one in planned))
    rows = [_row(names, mask, tasks, found) for names, mask in dict.fromkeys((names, mask) for names, mask, _ in found)]
    measured = tuple(
        Measurement.spread(
            f"accuracy/{split}/{task}/{'+'.join(names)}/{WORDS[mask]}", _values(reports, split), "%"
        )
        for (names, mask, task), reports in found.items() for split in _splits(reports)
    )  # fmt: skip
    return Report(
        rows=measured, notes=(*_verdicts(found), *_sizes(found), *_recipes(planned)),
        tables=(Table(title="Tickets x tasks, accuracy in %", rows=tuple(rows)),),
    )  # fmt: skip


Found = Mapping[tuple[tuple[str, ...], str, str], list[Report]]


def _call(one: Cell, context: RunContext) -> tuple[Any, ...]:
    here = RunContext(out=context.out / one.place, device=context.device, cache=context.cache, force=context.force)
    return STAGES["ticket"], one.settings, one.source, [one.data], here


def _row(names: tuple[str, ...], mask: str, tasks: Sequence[str], found: Found) -> dict[str, Any]:
    reports = [found[names, mask, task] for task in tasks]
    gone = reports[0][0].get("sparsity/prunable") or 0.0
    row: dict[str, Any] = {"ticket": ", ".join(names), "network": WORDS[mask], "weights %": 100 - gone}
    for task, repeats in zip(tasks, reports, strict=True):
        for split in _splits(repeats):
            values = _values(repeats, split)
            row[f"{task} {split}"] = median(values)
            if len(values) > 1:
                row[f"{task} {split} range"] = f"{min(values):.2f} to {max(values):.2f}"
    return row | {"n": len(reports[0])}


def _splits(reports: list[Report]) -> list[str]:
    """The splits that a task has images of."""
    return [split for split in SPLITS if reports[0].get(f"accuracy/{split}") is not None]


def _values(reports: Sequence[Report], split: str) -> list[float]:
    return [one[f"accuracy/{split}"].value for one in reports]


def _verdicts(found: Found) -> list[str]:
    """Say it where a random mask does as well as a ticket on the validation split, or the dense network better."""
    notes = []
    for (names, mask, task), reports in found.items():
        others = {
            kind: median(_values(rest, "val"))
            for (owners, kind, context), rest in found.items()
            if mask == "ticket" and kind != "ticket" and context == task and names[0] in owners
        }
        own = median(_values(reports, "val"))
        if others.get("random", -1.0) >= own:
            notes.append(f"{names[0]} ({own:.2f}) does not beat a random mask ({others['random']:.2f}) on {task}")
        if others.get("none", -1.0) > own:
            notes.append(f"{names[0]} ({own:.2f}) does not match the dense network ({others['none']:.2f}) on {task}")
    return notes


def _sizes(found: Found) -> list[str]:
    told = {
        task: [f"{reports[0][f'accuracy/{split}'].n} {SPLITS[split]}" for split in _splits(reports)]
        for (_, _, task), reports in found.items()
    }
    return [f"{task}: {' and '.join(counts)} images" for task, counts in told.items()]


def _recipes(planned: Sequence[Cell]) -> list[str]:
    """Say it if tickets are trained in different ways, because then their rows do not compare."""
    told = [one.settings.training(one.source.facts.recipe) for one in planned]
    alike = all(one == told[0] for one in told)
    return [] if alike else ["the tickets' recipes differ: give --epochs and --lr to train all alike"]
