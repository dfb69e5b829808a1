"""Share out a time among the steps of a pipeline."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from effxfer.errors import SettingsError
from effxfer.pipeline.plan import Plan, Step

RESERVE = 0.03


@dataclass(frozen=True, kw_only=True)
class Portion:
    """What a kind of stage gets.

    Attributes:
        weight: Against other stages.
        most: Seconds that it needs at most; what is above it goes to the others.
        split: Settings that hold it to the time, with their share of it.
        caps: Largest values of those settings, where there are any.
    """

    weight: float
    most: float = float("inf")
    split: Mapping[str, float]
    caps: Mapping[str, float]


WHOLE: Mapping[str, float] = {"seconds": 1.0}
PORTIONS: Mapping[str, Portion] = {
    "bench": Portion(weight=1, most=100, split={"max_seconds": 0.5}, caps={"max_seconds": 60}),
    "compete": Portion(weight=6, split=WHOLE, caps={}),
    "export": Portion(weight=1, most=90, split={"latency_seconds": 0.2}, caps={"latency_seconds": 20}),
    "finetune": Portion(weight=5, split=WHOLE, caps={}),
    "prune channels": Portion(weight=5, split=WHOLE, caps={}),
    "search": Portion(weight=2, most=300, split=WHOLE, caps={}),
}


def allot(plan: Plan, seconds: float) -> tuple[Plan, Mapping[str, float]]:
    """Hold every step of a plan to its share of a time.

    Args:
        plan: Its steps' settings of time are replaced.
        seconds: For all steps; 3 % of it are left for starting and reporting.

    Returns:
        The plan, and the seconds of each step by its name.

    Raises:
        SettingsError: If a step cannot be held to a time, such as a search for lottery tickets.
    """
    free = [f"{step.name!r} ({step.stage})" for step in plan.steps if step.stage not in PORTIONS]
    if free:
        hint = f"stages that can: {', '.join(PORTIONS)}"
        raise SettingsError(f"no time can be set for {', '.join(free)}", hint, code="E201")
    shares = shared({step.name: PORTIONS[step.stage] for step in plan.steps}, seconds * (1 - RESERVE))
    return replace(plan, steps=tuple(_held(step, shares[step.name]) for step in plan.steps)), shares


def shared(portions: Mapping[str, Portion], seconds: float) -> dict[str, float]:
    """Give each its share by weight, and none more than it needs."""
    shares: dict[str, float] = {}
    left, open_ = seconds, dict(portions)
    while open_:
        weight = sum(one.weight for one in open_.values())
        full = {name: one.most for name, one in open_.items() if left * one.weight / weight > one.most}
        if not full:
            return shares | {name: left * one.weight / weight for name, one in open_.items()}
        shares |= full
        left -= sum(full.values())
        open_ = {name: one for name, one in open_.items() if name not in full}
    return shares


def _held(step: Step, seconds: float) -> Step:
    portion = PORTIONS[step.stage]
    told: dict[str, Any] = {
        name: round(min(seconds * share, portion.caps.get(name, seconds)), 2) for name, share in portion.split.items()
    }
    return replace(step, settings=step.settings.model_copy(update=told))
