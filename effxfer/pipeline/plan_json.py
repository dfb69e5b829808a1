"""A checked plan as JSON, for processes that run one of its steps."""

from collections.abc import Mapping
from typing import Any

from effxfer.data.settings import DataSettings
from effxfer.net.settings import BackboneSettings
from effxfer.pipeline.plan import Plan, Step
from effxfer.settings import build
from effxfer.stages import STAGES


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """Return a plan as JSON types.

    Args:
        plan: The plan, also with changes that no file has, such as the time of each step.
    """
    return {
        "name": plan.name,
        "backbone": plan.backbone.plain(),
        "data": {name: settings.plain() for name, settings in plan.data.items()},
        "steps": [{**vars(step), "settings": step.settings.plain()} for step in plan.steps],
    }


def plan_from_json(plain: Mapping[str, Any]) -> Plan:
    """Return the plan that `plan_to_json` wrote.

    Raises:
        SettingsError: If it is of another version of effxfer, with other settings.
    """
    return Plan(
        name=plain["name"],
        backbone=build(BackboneSettings, plain["backbone"], "[backbone]"),
        data={name: build(DataSettings, table, "[data]") for name, table in plain["data"].items()},
        steps=tuple(_step(table) for table in plain["steps"]),
    )


def _step(table: Mapping[str, Any]) -> Step:
    settings = build(STAGES[table["stage"]].settings, table["settings"], f"stage {table['name']!r}")
    lists = {key: tuple(table[key]) for key in ("models", "tasks")}
    return Step(**{**table, **lists, "settings": settings})
