"""The stages: each reads a model, does one thing, and writes a model directory."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from effxfer.deploy.settings import ExportSettings
from effxfer.errors import SettingsError, did_you_mean
from effxfer.settings import Settings
from effxfer.stages.settings.common import Bench, Finetune, LearningCurve, Search
from effxfer.stages.settings.compete_settings import Compete
from effxfer.stages.settings.prune_settings import Channels, Compact, Gradual, Lottery, Structured
from effxfer.stages.settings.qat_settings import Qat
from effxfer.stages.settings.ticket_settings import Adapter, Ticket


@dataclass(frozen=True)
class Stage:
    """One kind of stage.

    Attributes:
        settings: What it is told.
        find: Imports its function.
        kind: `net` makes a network from a network, `ticket` from a ticket, `adapter` from a network and an adapter;
            `files` adds files to one; `times` compares several.
        leaves_ticket: Whether its result holds a ticket.
    """

    settings: type[Settings]
    find: Callable[[], Callable[..., Any]]
    kind: str = "net"
    leaves_ticket: bool = False


def _adapter() -> Callable[..., Any]:
    from effxfer.stages.train.adapter import adapter

    return adapter


def _finetune() -> Callable[..., Any]:
    from effxfer.stages.train.finetune import finetune

    return finetune


def _curve() -> Callable[..., Any]:
    from effxfer.stages.train.learning_curve import curve

    return curve


def _compete() -> Callable[..., Any]:
    from effxfer.stages.train.compete import compete

    return compete


def _lottery() -> Callable[..., Any]:
    from effxfer.stages.prune.lottery import lottery

    return lottery


def _gradual() -> Callable[..., Any]:
    from effxfer.stages.prune.gradual import gradual

    return gradual


def _channels() -> Callable[..., Any]:
    from effxfer.stages.prune.channels import channels

    return channels


def _compact() -> Callable[..., Any]:
    from effxfer.stages.prune.compact import compact

    return compact


def _structured() -> Callable[..., Any]:
    from effxfer.stages.prune.channel_lottery import structured

    return structured


def _ticket() -> Callable[..., Any]:
    from effxfer.stages.prune.ticket import ticket

    return ticket


def _qat() -> Callable[..., Any]:
    from effxfer.stages.train.qat import qat

    return qat


def _search() -> Callable[..., Any]:
    from effxfer.stages.head_search.search import search

    return search


def _export() -> Callable[..., Any]:
    from effxfer.stages.deliver.export import export

    return export


def _bench() -> Callable[..., Any]:
    from effxfer.stages.deliver.bench import bench

    return bench


STAGES: dict[str, Stage] = {
    "adapter": Stage(Adapter, _adapter, "adapter"),
    "bench": Stage(Bench, _bench, "times"),
    "compete": Stage(Compete, _compete),
    "curve": Stage(LearningCurve, _curve),
    "export": Stage(ExportSettings, _export, "files"),
    "finetune": Stage(Finetune, _finetune),
    "prune channels": Stage(Channels, _channels),
    "prune compact": Stage(Compact, _compact),
    "prune gradual": Stage(Gradual, _gradual, leaves_ticket=True),
    "prune lottery": Stage(Lottery, _lottery, leaves_ticket=True),
    "prune structured": Stage(Structured, _structured, leaves_ticket=True),
    "qat": Stage(Qat, _qat),
    "search": Stage(Search, _search),
    "ticket": Stage(Ticket, _ticket, "ticket"),
}


def stage_of(table: Mapping[str, Any]) -> str:
    """Name the stage that a pipeline's table asks for: its `run`, and its `method` where there are several.

    Raises:
        SettingsError: If there is no such stage, with the nearest name.
    """
    run, method = str(table.get("run", "")), str(table.get("method", "lottery"))
    name = f"{run} {method}" if run == "prune" else run
    if name in STAGES:
        return name
    if run == "prune":
        methods = [n.split()[1] for n in STAGES if n.startswith("prune ")]
        raise SettingsError(f"no pruning method {method!r}{did_you_mean(method, methods)}", f"methods: {methods}")
    runs = sorted({n.split()[0] for n in STAGES})
    raise SettingsError(f"no stage {run!r}{did_you_mean(run, runs)}", f"stages are: {', '.join(runs)}")
