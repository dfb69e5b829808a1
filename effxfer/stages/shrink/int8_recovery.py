"""Train the winner for the rounding of int8 where that costs too much."""

from collections.abc import Mapping
from copy import deepcopy
from math import ceil
from typing import Any

from effxfer.net.net import Net
from effxfer.stages.shrink.contest import Contest
from effxfer.stages.shrink.entries import Entry
from effxfer.stages.shrink.scores import scores_of
from effxfer.stages.train.finetune import time_allowance, train
from effxfer.stages.train.qat import frozen_norms
from effxfer.train.fake_quant import fake_quantize
from effxfer.train.state import Work

# As the stage `qat` has them: 3 of 9 epochs, at a tenth of the rate that the network was trained with; its other
# settings are the defaults of `Qat`.
SHARE, RATE = 1 / 3, 0.1
# 7 bits: see `Qat.bits`.
BITS = 7


def loses_by_rounding(contest: Contest, row: Mapping[str, Any]) -> bool:
    """Whether the int8 file of a candidate ships and loses more than the settings accept; `row` are its scores."""
    limit = contest.settings.int8_drop
    return limit is not None and row["ships"] == "int8" and row["float"] - row["val"] > limit


def recover_int8(
    contest: Contest, entry: Entry, net: Net, row: dict[str, Any], *, epochs: int, seconds: float | None, work: Work,
    label: str,
) -> tuple[Net, dict[str, Any]]:  # fmt: skip
    """Train a network further with rounded weights and activations if its int8 file loses too much.

    The rounding of Jacob et al., 2018 (https://arxiv.org/abs/1712.05877), under the teacher of all candidates.

    Args:
        contest: What all candidates share; `settings.int8_drop` is the loss in points that is accepted.
        entry: The candidate.
        net: Its trained network; unchanged.
        row: Its scores.
        epochs: Length of its training in float32.
        seconds: Time that is left; None: no limit.
        work: Saves checkpoints.
        label: Text of the progress bar.

    Returns:
        The better one of both networks as it ships, and its scores.
    """
    settings = contest.settings
    is_late = seconds is not None and seconds < contest.least_seconds(entry.epoch_seconds)
    if not loses_by_rounding(contest, row) or is_late:
        return net, row
    began, rounded, tasks = contest.now(), deepcopy(net), contest.tasks_for(net)
    fit = settings.fit.model_copy(
        update={"epochs": ceil(epochs * SHARE), "lr": settings.fit.peak_lr * RATE, "warmup": 0.0}
    )
    with frozen_norms(rounded, "frozen"), fake_quantize(rounded, bits=BITS):
        history = train(
            rounded, tasks, contest.strategy, fit, device=contest.device, seed=settings.seed, work=work.part("int8"),
            loss=contest.loss_for(rounded, entry.kept_outputs), label=f"{label}, rounded",
            allowance=time_allowance(seconds, began, tasks[-1], contest.now),
        )  # fmt: skip
    after = scores_of(contest, rounded.eval(), entry.network, can_ship_float=bool(entry.as_float))
    return (rounded, {**row, **after, "rounded": len(history)}) if after["val"] > row["val"] else (net, row)
