"""Remove channels and whole residual blocks until the network meets a latency.

The method is HALP's (Shen et al., 2022, https://arxiv.org/abs/2110.10811): a table of measured layers, and a knapsack
over it; here the loss is measured per group, blocks may leave whole, and the outcome is timed and the model corrected.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache
from math import gcd
from typing import Any

from torch import Tensor, nn

from effxfer.net.layers import Site, trace
from effxfer.prune.channels.importance import MAX_RATIO_PER_LAYER, Importance, Rule
from effxfer.prune.channels.knapsack import Block, Choice, Group, PricedLayer, latency, search
from effxfer.prune.channels.latency_loop import (
    LatencyTarget,
    PairedTiming,
    latency_report,
    nearest_round,
    search_to_target,
)
from effxfer.prune.channels.pruner import ChannelPruner, Plan
from effxfer.prune.channels.remove import commit_sizes_, size_report
from effxfer.prune.channels.residual_blocks import residual_blocks
from effxfer.prune.channels.selection import ScoredChannels
from effxfer.prune.channels.sensitivity import Loss, block_losses, loss_curves, pair_losses
from effxfer.prune.graph.macs import cost as multiply_adds
from effxfer.prune.graph.macs import run
from effxfer.prune.graph.removal import channels_per_unit
from effxfer.prune.graph.trace import WEIGHING, is_depthwise
from effxfer.prune.graph.transaction import Network, copy_for_tracing, frozen_outputs
from effxfer.prune.network import edit_, example_of, layer_widths
from effxfer.prune.result import PruneResult
from effxfer.prune.weights.scores.context import Losses
from effxfer.report import Report, Table

SPARED = "other layers save the same latency at a lower loss"
Cost = Callable[[Site, int, int], float]


@dataclass(frozen=True, kw_only=True, eq=False)
class Knapsack:
    """The knapsack problem of one network.

    Attributes:
        channels: The sets of tied layers, with scores.
        groups: The same, with widths and losses.
        blocks: Residual blocks that can be removed.
        layers: Layers with their costs.
    """

    channels: Sequence[ScoredChannels]
    groups: Sequence[Group]
    blocks: Sequence[Block]
    layers: Sequence[PricedLayer]

    def plan(self, choice: Choice) -> Plan:
        """Return the positions to remove: the weakest of each set."""
        weakest = {c.layer: c.scores.argsort(stable=True)[: choice.removed[c.layer]].tolist() for c in self.channels}
        return {layer: sorted(positions) for layer, positions in weakest.items() if positions}


def prune_to_latency(
    net: nn.Module,
    *,
    target: LatencyTarget,
    cost: Cost,
    step: int,
    time: Callable[[Any], PairedTiming],
    loss: Loss,
    example: Tensor | None = None,
    importance: Importance = "magnitude",
    exclude: Sequence[str] = (),
    max_ratio_per_layer: float = MAX_RATIO_PER_LAYER,
    examples: Losses | None = None,
) -> PruneResult:
    """Remove channels and blocks, in place, until the network meets a latency; record it as edits.

    Args:
        net: Any module that takes one tensor and returns one; a `Net` with a head, whose ticket stays a ticket. Where
            anything fails, it is unchanged.
        target: The latency, and what a millisecond of `cost` is in its unit.
        cost: Function from a layer's shape and (inputs, outputs) to milliseconds.
        step: Widths that are tried are multiples of this: the fast path of the runtime, as measured.
        time: Times a candidate in turns with the dense network.
        loss: Function from a network to its mean loss on a fixed set of training images.
        example: See `remove_channels`.
        importance: Importance of the channels of a set, see `remove_channels`.
        exclude: Shell patterns of layers whose outputs stay, and whose blocks stay.
        max_ratio_per_layer: Largest share of its channels that a layer may lose, in (0, 1).
        examples: See `remove_channels`; used by `taylor` only.

    Returns:
        What was asked, predicted and measured; multiply-adds and parameters; tables of layers, groups, blocks and
        searches. Which outputs were kept, and the record of the sizes and of the blocks left out.

    Raises:
        SettingsError: If the latency cannot be reached.
        GateError: If no round is at most 10 % slower than the target, after four corrections.
        ModelFileError: If the network cannot be traced, pruned or rebuilt; names the layer.
    """
    rule = Rule(
        importance=importance, max_ratio_per_layer=max_ratio_per_layer, examples=examples, squared=True
    )  # fmt: skip
    trial, example, wide = copy_for_tracing(net), example_of(net, example), layer_widths(net)
    before = multiply_adds(trial, example)
    # Before the knapsack counts on sets that cannot leave.
    pruner = ChannelPruner(trial, example, rule, exclude).exclude_unsound()
    task = knapsack(pruner, frozen_outputs(trial, exclude), cost, step, loss)
    rounds = search_to_target(
        target,
        lambda ms: search(task.groups, task.blocks, task.layers, ms),
        lambda choice: time(candidate(pruner, task, choice)),
    )
    best = nearest_round(rounds, target)
    plan = task.plan(best.choice)
    # Channels before blocks: the sizes are recorded for all layers, also of blocks that leave.
    record = commit_sizes_(net, pruner.checked_copy(plan), example)
    if best.choice.dropped:
        record = [*record, edit_(net, "remove_blocks", names=sorted(best.choice.dropped))]
    after, outputs = multiply_adds(net, example), pruner.kept_outputs(plan)
    report, reasons = size_report(net, wide, before, after, pruner.kept_reasons, otherwise=SPARED)
    report += latency_report(rounds, best, target) + Report(tables=tradeoff_tables(task, best.choice))
    return PruneResult(report=report, kept_outputs=outputs, kept_reasons=reasons, record=record)


def knapsack(
    pruner: ChannelPruner[Network], frozen: Sequence[nn.Module], cost: Cost, step: int, loss: Loss
) -> Knapsack:
    """Build the knapsack: removable groups and blocks with their loss, and layers with their latency."""
    trial, example = pruner.trial, pruner.example
    # The width of heads is left alone: heads leave whole.
    channels = [c for c in pruner.channels if not c.within]
    least = {c.layer: c.least(pruner.rule.max_ratio_per_layer, 1) for c in channels}
    curves = loss_curves(trial, pruner.structure, channels, least, loss)
    groups = [
        Group(
            # A unit of a grouped convolution is several outputs already.
            name=c.layer, width=len(c.scores), least=least[c.layer], step=1 if c.heads else step // gcd(step, c.copies),
            loss=cache(curves[c.layer]),
        )
        for c in channels
    ]  # fmt: skip
    names = residual_blocks(trial, example, frozen)
    ties = _ties(pruner, {c.layer for c in channels})
    losses = block_losses(trial, names, loss)
    pairs = pair_losses(trial, losses, loss)
    blocks = [Block(name=n, loss=losses[n], inside=_groups_inside(n, ties), pairs=pairs.get(n, {})) for n in names]
    return Knapsack(
        channels=channels, groups=groups, blocks=blocks, layers=_price_layers(trial, example, ties, names, cost)
    )


def candidate(pruner: ChannelPruner[Network], task: Knapsack, choice: Choice) -> Network:
    """Copy a network without the channels and blocks of a configuration.

    Raises:
        ModelFileError: If the copy does not run.
    """
    smaller = pruner.copy_without(task.plan(choice))
    edit_(smaller, "remove_blocks", names=sorted(choice.dropped))
    run(smaller, pruner.example)
    return smaller


def modelled_ms(net: nn.Module, example: Tensor, cost: Cost) -> float:
    """Sum the cost model over a network's layers, in milliseconds."""
    return sum(cost(layer.site, layer.inputs, layer.outputs) for layer in trace(net, example))


def tradeoff_tables(task: Knapsack, choice: Choice) -> tuple[Table, ...]:
    """Tabulate each group and block: its loss, and the latency that restoring it would add."""
    rows = [
        {
            "group": group.name,
            "before": group.width,
            "after": group.width - choice.removed[group.name],
            "loss rise": group.loss(choice.removed[group.name]),
            "ms saved": latency(task.layers, {**choice.removed, group.name: 0}, choice.dropped) - choice.ms,
        }
        for group in task.groups
    ]
    blocks = [
        {
            "block": block.name,
            "left out": "yes" if block.name in choice.dropped else "",
            "loss rise": block.loss,
            "ms": latency(task.layers, choice.removed, choice.dropped - {block.name})
            - latency(task.layers, choice.removed, choice.dropped | {block.name}),
        }
        for block in task.blocks
    ]
    return (
        Table(title="Channels removed for the latency", rows=tuple(rows)),
        Table(title="Removable residual blocks", rows=tuple(blocks)),
    )


TiedLayers = dict[str, tuple[dict[str, int], dict[str, int]]]


def _ties(pruner: ChannelPruner[Network], sets: Collection[str]) -> TiedLayers:
    """Map each set to the number of inputs and outputs of each layer that belong to one unit."""
    ties: TiedLayers = {}
    for group in pruner.structure.units:
        if group.layer in sets:
            parts = [
                part for part in channels_per_unit(group) if isinstance(pruner.trial.get_submodule(part[0]), WEIGHING)
            ]
            depthwise_layers = {name for name, _, _ in parts if is_depthwise(pruner.trial.get_submodule(name))}
            reads = {
                name: written if name in depthwise_layers else read
                for name, read, written in parts
                if read or name in depthwise_layers
            }
            ties[group.layer] = reads, {name: written for name, _, written in parts if written}
    return ties


def _groups_inside(block: str, ties: TiedLayers) -> frozenset[str]:
    """Return the groups with no layer outside a block."""
    return frozenset(
        group
        for group, (reads, writes) in ties.items()
        if all(layer.startswith(f"{block}.") for layer in (*reads, *writes))
    )


def _price_layers(
    trial: nn.Module, example: Tensor, ties: TiedLayers, blocks: Sequence[str], cost: Cost
) -> list[PricedLayer]:
    def ms(site: Site) -> Callable[[int, int], float]:
        return cache(lambda inputs, outputs: cost(site, inputs, outputs))

    return [
        PricedLayer(
            name=layer.name,
            inputs=layer.inputs,
            outputs=layer.outputs,
            reads={group: reads[layer.name] for group, (reads, _) in ties.items() if layer.name in reads},
            writes={group: writes[layer.name] for group, (_, writes) in ties.items() if layer.name in writes},
            blocks=frozenset(block for block in blocks if layer.name.startswith(f"{block}.")),
            ms=ms(layer.site),
        )
        for layer in trace(trial, example)
    ]
