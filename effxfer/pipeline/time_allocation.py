"""Divide a time budget among the steps of a pipeline."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from effxfer.errors import SettingsError
from effxfer.pipeline.plan import Plan, Step

# Chosen, not measured: of 10 minutes 18 s, for loading torch once (some seconds), reading data and the report page.
RESERVED_SHARE = 0.03


@dataclass(frozen=True, kw_only=True)
class StageShare:
    """The share of time of a kind of stage.

    Attributes:
        weight: Weight relative to other stages.
        max_seconds: Largest useful time; the excess goes to other stages.
        split: Settings that limit its time, with their share of it.
        caps: Largest values of those settings, if limited.
    """

    weight: float
    max_seconds: float = float("inf")
    split: Mapping[str, float]
    caps: Mapping[str, float]


ALL_SECONDS: Mapping[str, float] = {"seconds": 1.0}
STAGE_SHARES: Mapping[str, StageShare] = {
    # Chosen, not measured: training decides accuracy and gets most. The seconds of `bench` and `export` limit their
    # timing only: half of the one and a fifth of the other.
    "bench": StageShare(weight=1, max_seconds=100, split={"max_seconds": 0.5}, caps={"max_seconds": 60}),
    "compete": StageShare(weight=6, split=ALL_SECONDS, caps={}),
    "export": StageShare(weight=1, max_seconds=90, split={"latency_seconds": 0.2}, caps={"latency_seconds": 20}),
    "finetune": StageShare(weight=5, split=ALL_SECONDS, caps={}),
    "prune channels": StageShare(weight=5, split=ALL_SECONDS, caps={}),
    # It evaluates twice, and trains nothing.
    "prune vocabulary": StageShare(weight=1, max_seconds=30, split={}, caps={}),
    "search": StageShare(weight=2, max_seconds=300, split=ALL_SECONDS, caps={}),
    "shrink": StageShare(weight=8, split=ALL_SECONDS, caps={}),
}


def allocate_seconds(plan: Plan, seconds: float) -> tuple[Plan, Mapping[str, float]]:
    """Limit every step of a plan to its share of a time budget.

    Args:
        plan: The plan, whose time settings are replaced.
        seconds: Time for all steps; 3 % of it are reserved for start-up and reports.

    Returns:
        The plan, and the seconds of each step by its name.

    Raises:
        SettingsError: If the time of a step cannot be limited, such as a search for lottery tickets.
    """
    free = [f"{step.name!r} ({step.stage})" for step in plan.steps if step.stage not in STAGE_SHARES]
    if free:
        hint = f"stages with a time limit: {', '.join(STAGE_SHARES)}"
        raise SettingsError(f"no time can be set for {', '.join(free)}", hint, code="E201")
    shares = share_seconds({step.name: STAGE_SHARES[step.stage] for step in plan.steps}, seconds * (1 - RESERVED_SHARE))
    return replace(plan, steps=tuple(_limit_step(step, shares[step.name]) for step in plan.steps)), shares


def share_seconds(stage_shares: Mapping[str, StageShare], seconds: float) -> dict[str, float]:
    """Divide seconds by weight, with no stage above its `max_seconds`."""
    shares: dict[str, float] = {}
    remaining, open_ = seconds, dict(stage_shares)
    # What a stage cannot use is shared again, which may fill another one: at most one round per stage.
    while open_:
        weight = sum(one.weight for one in open_.values())
        full = {
            name: one.max_seconds for name, one in open_.items() if remaining * one.weight / weight > one.max_seconds
        }
        if not full:
            return shares | {name: remaining * one.weight / weight for name, one in open_.items()}
        shares |= full
        remaining -= sum(full.values())
        open_ = {name: one for name, one in open_.items() if name not in full}
    return shares


def _limit_step(step: Step, seconds: float) -> Step:
    stage_share = STAGE_SHARES[step.stage]
    settings: dict[str, Any] = {
        name: round(min(seconds * share, stage_share.caps.get(name, seconds)), 2)
        for name, share in stage_share.split.items()
    }
    return replace(step, settings=step.settings.model_copy(update=settings))
