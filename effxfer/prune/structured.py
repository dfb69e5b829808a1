"""Remove whole channels along the dependency graph (DepGraph, Fang et al., 2023, https://arxiv.org/abs/2301.12900)."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from effxfer.errors import ModelFileError, SettingsError
from effxfer.net.edits import measure, record_resize
from effxfer.net.net import KEEP, Net
from effxfer.prune.channels import Channels, Scope, choose
from effxfer.prune.graph import HINT, Graph, cost, magnitude, run, taylor
from effxfer.prune.mask import Mask
from effxfer.prune.scores.evidence import Losses
from effxfer.prune.surgery import adopt_, example_of, fixed, traceable, widths
from effxfer.report import Measurement, Report, Table

Importance = Literal["magnitude", "taylor"]
Plan = dict[str, list[int]]
Left = dict[str, list[int]]
HALVINGS = 9
TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How channels are chosen; the attributes are those of `remove_channels`."""

    importance: Importance
    scope: Scope
    round_to: int
    max_ratio_per_layer: float
    exclude: Sequence[str]
    examples: Losses | None


def remove_channels(
    net: Net,
    *,
    ratio: float | None = None,
    macs_ratio: float | None = None,
    importance: Importance = "magnitude",
    scope: Scope = "layer",
    round_to: int = 1,
    steps: int = 1,
    exclude: Sequence[str] = (),
    max_ratio_per_layer: float = 0.9,
    examples: Losses | None = None,
    left: Left | None = None,
) -> Report:
    """Remove the least important channels, in place, and record the new sizes as one `resize` edit.

    The head's outputs and hidden layers are never pruned; its inputs are. A ticket stays a ticket: its masks lose
    the same channels. Everything is tried on a copy, which is checked and rebuilt from its edits first; where that
    fails, `net` stays as it was.

    Args:
        net: With or without a head and a ticket. Stays on its device and in its mode.
        ratio: Share of channels to remove, in (0, 1): of each layer or of all, depending on `scope`.
        macs_ratio: Instead of `ratio`: remove until the multiply-adds are at most this share of what they were,
            in (0, 1).
        importance: `magnitude` is the norm of all weights tied to a channel; `taylor` is how much the loss changes, to
            first order, without them (Molchanov et al., 2019, https://arxiv.org/abs/1906.10771): needs `examples`.
        scope: `layer` removes the same share everywhere; `global` ranks all channels together.
        round_to: Channels that remain are a multiple of this where a layer has that many; 1 does not round.
        steps: In how many equal parts to prune; importance is estimated anew before each.
        exclude: Shell patterns of layers whose outputs stay; empty is none.
        max_ratio_per_layer: Largest share of its channels that a layer may lose, in (0, 1).
        examples: Gives the losses of some batches under the network that it is passed, one after the other; used by
            `taylor` only.
        left: Learns, of each layer that lost outputs, which ones are left.

    Returns:
        Multiply-adds and parameters before and after, a ticket's sparsity, and a table of channels per layer.

    Raises:
        SettingsError: If a setting is out of range, a pattern matches nothing, or `macs_ratio` cannot be reached.
        ModelFileError: If the network cannot be traced, pruned or rebuilt; names the layer.
    """
    _check(ratio, macs_ratio, round_to, steps, max_ratio_per_layer)
    rule = Rule(
        importance=importance, scope=scope, round_to=round_to, max_ratio_per_layer=max_ratio_per_layer,
        exclude=exclude, examples=examples,
    )  # fmt: skip
    trial, example = traceable(net), example_of(net)
    dense = cost(trial, example)
    initial: dict[str, int] = {}
    for step in range(1, steps + 1):
        layers, share = ranked(trial, example, rule, initial), step / steps
        if macs_ratio is None:
            plan = _plan(layers, (ratio or 0.0) * share, rule)
        else:
            plan = _plan_until(trial, example, layers, dense[0] * (1 - (1 - macs_ratio) * share), rule)
        trial, before_it = checked(trial, example, layers, plan, rule), trial
        note_left(left, before_it, example, layers, plan)
    shrink_masks_(trial)
    before = widths(net)
    record_resize(trial, measure(net))
    adopt_(net, trial, example)
    return size_report(net, before, dense, cost(net, example))


def _check(
    ratio: float | None, macs_ratio: float | None, round_to: int, steps: int, max_ratio_per_layer: float
) -> None:
    given = {"ratio": ratio, "macs_ratio": macs_ratio, "max_ratio_per_layer": max_ratio_per_layer}
    wrong = [f"{name} must be in (0, 1), not {v}" for name, v in given.items() if v is not None and not 0 < v < 1]
    wrong += [f"{n} must be at least 1, not {v}" for n, v in {"round_to": round_to, "steps": steps}.items() if v < 1]
    if (ratio is None) == (macs_ratio is None):
        wrong.append("give either ratio or macs_ratio")
    if wrong:
        raise SettingsError("; ".join(wrong), code="E204")


def ranked(trial: Net, example: Tensor, rule: Rule, initial: dict[str, int]) -> list[Channels]:
    """Score every set of tied layers; `initial` learns how many channels each had at first."""
    graph = Graph(trial, example, fixed(trial, rule.exclude))
    if rule.importance == "taylor":
        _accumulate_gradients_(trial, rule.examples)
    layers = graph.channels(taylor() if rule.importance == "taylor" else magnitude(), initial)
    trial.zero_grad(set_to_none=True)
    if not layers:
        raise ModelFileError("the network has no layer whose channels could be removed", HINT)
    return layers


def _accumulate_gradients_(net: Net, examples: Losses | None) -> None:
    if examples is None:
        raise SettingsError("taylor importance needs examples", "pass losses, or use importance = 'magnitude'")
    net.zero_grad(set_to_none=True)
    with torch.enable_grad():
        for loss in examples(net):
            loss.backward()


def _plan(layers: Sequence[Channels], ratio: float, rule: Rule) -> Plan:
    limit = rule.max_ratio_per_layer
    return choose(layers, ratio=ratio, scope=rule.scope, round_to=rule.round_to, max_ratio=limit)


def pruned(trial: Net, example: Tensor, layers: Sequence[Channels], plan: Plan, rule: Rule) -> Net:
    """Copy a network without the channels of a plan."""
    smaller = deepcopy(trial)
    Graph(smaller, example, fixed(smaller, rule.exclude)).prune_(plan, {c.layer: c.copies for c in layers})
    return smaller


def note_left(left: Left | None, trial: Net, example: Tensor, layers: Sequence[Channels], plan: Plan) -> None:
    """Let `left` learn what a plan leaves of a network's outputs, as positions in the first one it was told of."""
    if left is None:
        return
    now = Graph(trial, example, fixed(trial)).outputs(plan, {c.layer: c.copies for c in layers})
    for layer, positions in now.items():
        left[layer] = [left[layer][i] for i in positions] if layer in left else positions


def checked(trial: Net, example: Tensor, layers: Sequence[Channels], plan: Plan, rule: Rule) -> Net:
    """Prune as `_pruned` does, and make sure that the result computes what the network with silent channels does.

    Raises:
        ModelFileError: If it does not; names the first layer whose channels alone make the difference.
    """
    smaller = pruned(trial, example, layers, plan, rule)
    found = run(smaller, example)
    if _agrees(found, trial, example, layers, plan, rule):
        return smaller
    for layer, positions in plan.items():
        alone = {layer: positions}
        output = run(pruned(trial, example, layers, alone, rule), example)
        if not _agrees(output, trial, example, layers, alone, rule):
            raise ModelFileError(f"the network computes something else without channels of {layer}", HINT)
    raise ModelFileError(f"the network computes something else without channels of {', '.join(plan)} together", HINT)


def _agrees(
    found: Tensor, trial: Net, example: Tensor, layers: Sequence[Channels], plan: Plan, rule: Rule
) -> bool:  # fmt: skip
    silenced = deepcopy(trial)
    graph = Graph(silenced, example, fixed(silenced, rule.exclude))
    exact = graph.silence_(plan, {c.layer: c.copies for c in layers})
    return not exact or _close(found, run(silenced, example))


def _close(one: Tensor, other: Tensor) -> bool:
    return float((one - other).abs().max()) <= TOLERANCE * max(float(other.abs().max()), 1e-6)


def _plan_until(trial: Net, example: Tensor, layers: Sequence[Channels], target: float, rule: Rule) -> Plan:
    """Find, by bisection, the smallest share of channels whose removal meets a number of multiply-adds."""

    def macs(plan: Plan) -> int:
        smaller = pruned(trial, example, layers, plan, rule)
        run(smaller, example)
        return cost(smaller, example)[0]

    low, high, best = 0.0, 1.0, _plan(layers, 1.0, rule)
    least = macs(best)
    if least > target:
        text = f"{target / 1e6:.3g} M multiply-adds cannot be reached: {least / 1e6:.3g} M remain"
        raise SettingsError(text, "raise macs_ratio or max_ratio_per_layer, lower round_to, or exclude fewer layers")
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        plan = _plan(layers, middle, rule)
        if macs(plan) > target:
            low = middle
        else:
            high, best = middle, plan
    return best


@torch.no_grad()
def shrink_masks_(trial: Net) -> None:
    """Give masked layers masks of their new shape: what is exactly zero stays removed."""
    for name in trial.kept():
        trial.register_buffer(KEEP + name.replace(".", "/"), trial.get_parameter(name) != 0)


def size_report(net: Net, wide: dict[str, int], before: tuple[int, int], after: tuple[int, int]) -> Report:
    """Tell what a network has become: multiply-adds, parameters, a ticket's sparsity, channels per layer."""
    rows = [{"layer": n, "before": wide[n], "after": now} for n, now in widths(net).items()]
    measured = (
        Measurement(name="macs/before", value=before[0] / 1e6, unit="M"),
        Measurement(name="macs/after", value=after[0] / 1e6, unit="M"),
        Measurement(name="macs/ratio", value=after[0] / before[0], unit="x", of="multiply-adds before"),
        Measurement(name="parameters/before", value=before[1] / 1e6, unit="M"),
        Measurement(name="parameters/after", value=after[1] / 1e6, unit="M"),
        Measurement(name="parameters/ratio", value=after[1] / before[1], unit="x", of="parameters before"),
    )
    return Report(rows=measured + _ticket_rows(net), tables=(Table(title="Channels per layer", rows=tuple(rows)),))


def _ticket_rows(net: Net) -> tuple[Measurement, ...]:
    if not net.kept():
        return ()
    mask = Mask.of(net)
    of = "prunable weights that survive"
    return (Measurement(name="sparsity/survivors", value=100 * mask.sparsity, unit="%", n=mask.counts[1], of=of),)
