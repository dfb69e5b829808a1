"""Structured lottery tickets: iterative pruning of whole channels and heads, with rewinding.

The loop of Frankle & Carbin (2019, https://arxiv.org/abs/1803.03635) on groups of weights: a channel's whole producing
weights, norm and bias go together (see https://arxiv.org/abs/2202.04736), so that the mask becomes smaller layers in
full: see `compact`.

Shape suffixes: U units (channels or heads) of one set of tied layers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from effxfer.errors import ModelFileError, SettingsError
from effxfer.prune.channels.importance import MAX_RATIO_PER_LAYER, Importance, Rule
from effxfer.prune.channels.selection import Scope
from effxfer.prune.graph.groups import RemovedUnits, Units, channels_of, units_in
from effxfer.prune.graph.macs import HINT
from effxfer.prune.graph.transaction import copy_for_tracing
from effxfer.prune.network import example_of, masks_of
from effxfer.prune.weights.lottery import (
    Remember,
    Round,
    Ticket,
    Train,
    Training,
    recompute,
    rewind_,
    schedule,
    weights_of,
)
from effxfer.prune.weights.lottery import report as lottery_report
from effxfer.prune.weights.mask import Mask
from effxfer.prune.weights.scores.context import Losses
from effxfer.report import Measurement, Report, Table


@dataclass(frozen=True, kw_only=True, eq=False)
class StructuredTicket(Ticket):
    """A ticket of removed channels; its mask also covers biases and norms.

    Attributes:
        removed: Removed channels or heads `(U,)`, by layer.
    """

    mask: Mask
    rounds: tuple[Round, ...]
    removed: RemovedUnits


def find_structured_ticket(
    net: nn.Module,
    train: Train,
    *,
    ratio: float,
    rounds: int,
    example: Tensor | None = None,
    importance: Importance = "magnitude",
    scope: Scope = "global",
    # A ticket's zeros cost nothing to keep; rounding matters where layers become smaller, in `compact`.
    round_to: int = 1,
    max_ratio_per_layer: float = MAX_RATIO_PER_LAYER,
    exclude: Sequence[str] = (),
    rewind: Mapping[str, Tensor] | None = None,
    examples: Losses | None = None,
    remember: Remember = recompute,
) -> StructuredTicket:
    """Train, remove channels by mask, and rewind, `rounds` times, then train the ticket.

    Each round removes the same share of the channels, heads and hidden units that remain. A network that already
    holds such a ticket goes on from it. Channels over which a norm averages stay, because they could not be compacted.

    Args:
        net: Network, changed in place; ends as the trained ticket, and holds its mask.
        train: See `lottery.find_ticket`.
        ratio: Share of the units to remove in all, in (0, 1).
        rounds: Number of pruning rounds; 1 is one-shot pruning.
        example: See `remove_channels`.
        importance: `magnitude` is the L2 norm of all weights that make or read a unit, against the mean of the units
            tied to the same layers; `taylor` is how much the loss changes without it, to first order (Molchanov et
            al., 2019, https://arxiv.org/abs/1906.10771), against the same mean, and needs `examples`.
        scope: `layer` removes the same share everywhere; `global` ranks all units together.
        round_to: Channels that remain are a multiple of this where a layer has that many; 1 does not round.
        max_ratio_per_layer: Largest share of its units that a layer may lose, in (0, 1).
        exclude: Shell patterns of layers whose outputs stay; empty is none.
        rewind: See `lottery.find_ticket`.
        examples: Function from a network to its losses on some batches, the same ones at each call.
        remember: See `lottery.find_ticket`.

    Returns:
        The ticket and how each round went.

    Raises:
        SettingsError: If a setting is out of range, or a pattern matches nothing.
        ModelFileError: If the network cannot be traced, has nothing to prune, or `rewind` does not fit.
        EffxferError: If `train` lets removed weights grow back.
    """
    _check(ratio, rounds, round_to, max_ratio_per_layer, importance, examples)
    rule = Rule(
        importance=importance, scope=scope, round_to=round_to, max_ratio_per_layer=max_ratio_per_layer,
        examples=examples,
    )  # fmt: skip
    units, start = prunable_units(net, exclude, example), weights_of(net if rewind is None else rewind)
    removed, history, dense = removed_units(net, units), list[Round](), dict[str, Tensor]()
    # What an earlier ticket removed is part of the first mask.
    mask = first = mask_of(net, units, removed)
    for number, target in enumerate([share_of(removed), *schedule(share_of(removed), rounds, sparsity=ratio)]):
        if number:
            removed = remove_weakest(net, units, removed, target, rule)
            mask = mask_of(net, units, removed)
        rewind_(net, start)
        mask.store_(net)
        state = remember(f"round-{number}", Training(net, train, mask, number))
        dense = dense or state["weights"]
        net.load_state_dict(state["weights"])
        history.append(Round(remaining=1 - mask.sparsity, score=state["score"]))
    return StructuredTicket(
        mask=mask, number=rounds, rounds=tuple(history), first=first, dense=dense, removed=removed
    )  # fmt: skip


def prunable_units(net: nn.Module, exclude: Sequence[str] = (), example: Tensor | None = None) -> list[Units]:
    """Find the channels, heads and hidden units that a mask can remove and `compact` can delete.

    Raises:
        ModelFileError: If there are none.
    """
    structure = units_in(copy_for_tracing(net), example_of(net, example), exclude)
    # A norm over channels averages zeros as well: removed, they would change what it gives.
    groups = [group for group in structure.units if group.reads and not group.mixed and not group.loose]
    if not groups:
        reasons = "; ".join(f"{layer}: {text}" for layer, text in structure.refused.items())
        raise ModelFileError(
            f"the network has no channels that a ticket could remove{': ' * bool(reasons)}{reasons}", HINT
        )
    return groups


def mask_of(net: nn.Module, units: Sequence[Units], removed: RemovedUnits) -> Mask:
    """Mask all weights and biases that write the removed units `(U,)`, in addition to the network's masks."""
    parameters = dict(net.named_parameters())
    keep = {name: stored.clone() for name, stored in masks_of(net).items()}
    for group in units:
        for layer, places in group.makes.items():
            for name in (f"{layer}.weight", f"{layer}.bias"):
                if name in parameters:
                    mask = keep.setdefault(name, torch.ones_like(parameters[name], dtype=torch.bool))
                    mask[channels_of(places, removed[group.layer]).to(mask.device)] = False
    return Mask(keep)


def removed_units(net: nn.Module, units: Sequence[Units]) -> RemovedUnits:
    """Read from the network's masks which units `(U,)` are removed: those without a remaining weight."""
    masks, removed = masks_of(net), dict[str, Tensor]()
    for group in units:
        dead = torch.ones(group.count, dtype=torch.bool)
        for layer, places in group.makes.items():
            mask = masks.get(f"{layer}.weight")
            empty_rows = None if mask is None else ~mask.cpu().view(len(mask), -1).any(1)
            # All layers of a unit must be empty: a channel is gone only where nobody makes it any more.
            dead &= False if empty_rows is None else group.all_of(places, empty_rows)
        removed[group.layer] = dead
    return removed


def random_units_mask(net: nn.Module, seed: int) -> Mask:
    """Draw a random mask that removes as many units of each set of tied layers as the network's mask.

    The network's masks are all true afterwards.
    """
    units = prunable_units(net)
    counts = {layer: int(lost.sum()) for layer, lost in removed_units(net, units).items()}
    for keep in masks_of(net).values():
        keep.fill_(True)
    generator, removed = torch.Generator().manual_seed(seed), dict[str, Tensor]()
    for group in units:
        removed[group.layer] = torch.zeros(group.count, dtype=torch.bool)
        removed[group.layer][torch.randperm(group.count, generator=generator)[: counts[group.layer]]] = True
    return mask_of(net, units, removed)


def share_of(removed: RemovedUnits) -> float:
    """Share of all units that are removed, in [0, 1]."""
    return sum(int(lost.sum()) for lost in removed.values()) / sum(len(lost) for lost in removed.values())


def remove_weakest(
    net: nn.Module, units: Sequence[Units], removed: RemovedUnits, ratio: float, rule: Rule
) -> RemovedUnits:
    """Remove the least important units until a share of all is removed; earlier removals stay."""
    initial = {group.layer: group.count for group in units}
    plan = rule.plan(rule.score_units(net, units, removed, initial), ratio)
    updated = {layer: lost.clone() for layer, lost in removed.items()}
    for layer, positions in plan.items():
        alive = (~removed[layer]).nonzero()[:, 0]
        updated[layer][alive[positions]] = True
    return updated


def report(net: nn.Module, ticket: StructuredTicket) -> Report:
    """Report the sparsity of a structured ticket, in weights and in channels, and its score per round."""
    counts = {layer: (len(lost), int((~lost).sum())) for layer, lost in ticket.removed.items()}
    total = sum(before for before, _ in counts.values())
    removed = Measurement(
        name="sparsity/channels", value=100 * share_of(ticket.removed), unit="%", n=total, of="channels and heads"
    )  # fmt: skip
    rows = tuple({"layer": layer, "units": before, "kept": remaining} for layer, (before, remaining) in counts.items())
    table = Table(title="Channels kept, by the layers tied together", rows=rows)
    return Report(rows=(removed,), tables=(table,)) + lottery_report(net, ticket)


def _check(
    ratio: float, rounds: int, round_to: int, max_ratio: float, importance: str, examples: Losses | None
) -> None:
    shares = {"ratio": ratio, "max_ratio_per_layer": max_ratio}
    wrong = [f"{name} must be in (0, 1), not {value}" for name, value in shares.items() if not 0 < value < 1]
    wrong += [f"{n} must be at least 1, not {v}" for n, v in {"rounds": rounds, "round_to": round_to}.items() if v < 1]
    if wrong:
        raise SettingsError("; ".join(wrong), code="E204")
    if importance == "taylor" and examples is None:
        raise SettingsError("taylor importance needs examples", "pass losses, or use importance = 'magnitude'")
