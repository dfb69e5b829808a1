"""Remove whole channels and attention heads, with everything tied to them (DepGraph, https://arxiv.org/abs/2301.12900)."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy

import torch
from torch import Tensor

from effxfer.errors import ModelFileError, SettingsError
from effxfer.net.edits import measure, record_resize
from effxfer.net.net import KEEP, Net
from effxfer.prune.channels import Channels, Scope
from effxfer.prune.forward import HINT, cost, run
from effxfer.prune.mask import Mask
from effxfer.prune.removal import outputs_left, remove_units_, silenced
from effxfer.prune.rule import Gone, Rule, none_gone
from effxfer.prune.scores.evidence import Losses
from effxfer.prune.surgery import adopt_, example_of, traceable, weed, widths
from effxfer.prune.unit_scores import Importance
from effxfer.prune.units import Units, units_in
from effxfer.report import Measurement, Report, Table

Plan = dict[str, list[int]]
Left = dict[str, list[int]]
HALVINGS = 9
TOLERANCE = 1e-3
SHOWN = 5


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
        left: Learns, of each convolution or linear layer that lost outputs, which ones are left; none where those of
            attention were scaled anew, because they are not what they were.

    Returns:
        Multiply-adds and parameters before and after, a ticket's sparsity, and a table of channels per layer.

    Raises:
        SettingsError: If a setting is out of range, a pattern matches nothing, or `macs_ratio` cannot be reached.
        ModelFileError: If the network cannot be traced, pruned or rebuilt; names the layer.
    """
    _check(ratio, macs_ratio, round_to, steps, max_ratio_per_layer)
    rule = Rule(
        importance=importance, scope=scope, round_to=round_to, max_ratio_per_layer=max_ratio_per_layer,
        examples=examples, squared=True,
    )  # fmt: skip
    trial, example, stay = traceable(net), example_of(net), dict[str, str]()
    dense = cost(trial, example)
    initial: dict[str, int] = {}
    for step in range(1, steps + 1):
        cut, share = Cut(trial, example, rule, exclude, initial, stay), step / steps
        if macs_ratio is None:
            plan = cut.by((ratio or 0.0) * share)
        else:
            plan = cut.until(dense[0] * (1 - (1 - macs_ratio) * share))
        trial = cut.without(plan)
        cut.note_left(left, plan)
    shrink_masks_(trial)
    before = widths(net)
    record_resize(trial, measure(net))
    adopt_(net, trial, example)
    return size_report(net, before, dense, cost(net, example), stay)


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


class Cut:
    """One step of pruning: what could leave, what it is worth, and which sets of layers turned out to be sound.

    Args:
        trial: The network, not changed.
        example: One input `(1, 3, S, S)`.
        rule: How units are chosen.
        exclude: Shell patterns of layers whose outputs stay.
        initial: Learns how many units of each kind there were at first.
        stay: Learns, by layer, why its units stay.

    Raises:
        ModelFileError: If nothing could leave; names the layers and what is in the way.
    """

    def __init__(
        self, trial: Net, example: Tensor, rule: Rule, exclude: Sequence[str], initial: dict[str, int],
        stay: dict[str, str],
    ) -> None:  # fmt: skip
        self.trial, self.example, self.rule, self.stay = trial, example, rule, stay
        self.structure = units_in(trial, example, exclude, widths=True)
        stay |= {layer: why for layer, why in self.structure.refused.items() if layer not in stay}
        self._keep({one.layer: _alone(one) for one in self.structure.units if one.count == 1})
        units = [one for one in self.structure.units if one.layer not in stay]
        for one in units:
            initial.setdefault(one.layer, one.count)
        self.channels = rule.scored(trial, units, none_gone(units), initial)
        self._some(self.channels)

    def by(self, ratio: float) -> Plan:
        """Choose a share of the units, in [0, 1], where they can leave."""
        return self._sound(lambda: self.rule.plan(self.channels, ratio))

    def until(self, target: float) -> Plan:
        """Choose the smallest share of the units without which the network needs so many multiply-adds."""
        self._sound(lambda: self.rule.plan(self.channels, 0.5))
        return self._sound(lambda: self._plan_until(target))

    def without(self, plan: Plan) -> Net:
        """Copy the network without the units of a plan."""
        smaller = deepcopy(self.trial)
        remove_units_(smaller, self.structure, self._gone(plan))
        return smaller

    def checked(self, plan: Plan) -> Net:
        """Copy the network without the units of a plan, as it computes what it does with silent ones.

        Raises:
            ModelFileError: If it does not; names the sets.
        """
        text = self._problem(plan, list(plan))
        if text:
            raise ModelFileError(f"without channels of {', '.join(plan)} {text}", HINT)
        return self.without(plan)

    def note_left(self, left: Left | None, plan: Plan) -> None:
        """Let `left` learn what a plan leaves of the outputs, as positions in the first network it was told of."""
        if left is None:
            return
        for layer, positions in outputs_left(self.trial, self.structure, self._gone(plan)).items():
            known = left.get(layer)
            left[layer] = positions if known is None else [known[i] for i in positions if known]

    def sound(self) -> "Cut":
        """Leave out the sets of layers without which the network computes something else."""
        self._sound(lambda: self.rule.plan(self.channels, 0.5))
        return self

    def _gone(self, plan: Plan) -> Gone:
        gone = none_gone(self.structure.units)
        for layer, positions in plan.items():
            gone[layer][positions] = True
        return {layer: gone[layer] for layer in plan}

    def _sound(self, choose: Callable[[], Plan]) -> Plan:
        """Choose, check, and choose again without the sets that are a problem, until there is none."""
        while True:
            plan, bad = choose(), dict[str, str]()
            weed(list(plan), lambda layers: self._problem(plan, layers), bad, ModelFileError)  # noqa: B023
            if not bad:
                return plan
            self._keep(bad)
            self.channels = [c for c in self.channels if c.layer not in bad]
            self._some(self.channels)

    def _keep(self, why: Mapping[str, str]) -> None:
        """Let sets stay; what is tied to them is named as well."""
        self.stay |= why
        for one in self.structure.units:
            if one.layer in why:
                tied = {name: f"it is tied to {one.layer}" for name in one.makes if name in widths(self.trial)}
                self.stay |= {name: text for name, text in tied.items() if name not in self.stay}

    def _some(self, channels: Sequence[Channels]) -> None:
        if not channels:
            why = "; ".join(f"{layer}: {text}" for layer, text in self.stay.items())
            text = "the network has no layer whose channels could be removed"
            raise ModelFileError(f"{text}: {why}" if why else text, HINT)

    def _problem(self, plan: Plan, layers: Sequence[str]) -> str:
        """Say what is wrong without the units of some layers; empty if nothing is."""
        some = {layer: plan[layer] for layer in layers}
        try:
            found = run(self.without(some), self.example)
        except ModelFileError as error:
            return error.problem
        copy = deepcopy(self.trial)
        with silenced(copy, self.structure, self._gone(some)) as exact:
            same = not exact or _close(found, run(copy, self.example))
        return "" if same else "the network computes something else"

    def _plan_until(self, target: float) -> Plan:
        """Find, by bisection, the smallest share of units whose removal meets a number of multiply-adds."""

        def macs(plan: Plan) -> int:
            return cost(self.without(plan), self.example)[0]

        low, high, best = 0.0, 1.0, self.rule.plan(self.channels, 1.0)
        least = macs(best)
        if least > target:
            text = f"{target / 1e6:.3g} M multiply-adds cannot be reached: {least / 1e6:.3g} M remain"
            raise SettingsError(
                text, "raise macs_ratio or max_ratio_per_layer, lower round_to, or exclude fewer layers"
            )
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            plan = self.rule.plan(self.channels, middle)
            if macs(plan) > target:
                low = middle
            else:
                high, best = middle, plan
        return best


def _alone(one: Units) -> str:
    return "it has only one of them" if one.heads or one.copies == 1 else "all of its channels are tied together"


def _close(one: Tensor, other: Tensor) -> bool:
    return float((one - other).abs().max()) <= TOLERANCE * max(float(other.abs().max()), 1e-6)


@torch.no_grad()
def shrink_masks_(trial: Net) -> None:
    """Give masked layers masks of their new shape: what is exactly zero stays removed."""
    for name in trial.kept():
        trial.register_buffer(KEEP + name.replace(".", "/"), trial.get_parameter(name) != 0)


def size_report(
    net: Net, wide: Mapping[str, int], before: tuple[int, int], after: tuple[int, int], stay: Mapping[str, str],
    *, spared: str = "its share is less than one channel",
) -> Report:  # fmt: skip
    """Tell what a network has become: its size, a ticket's sparsity, channels per layer, and which of them stay why.

    Layers that could have lost channels and lost none were `spared` for this reason.
    """
    now = widths(net)
    rows = [{"layer": name, "before": wide[name], "after": width} for name, width in now.items()]
    whole = [name for name, width in now.items() if width == wide[name] and name.startswith("body.")]
    left = {**stay, **{name: spared for name in whole if name not in stay}}
    measured = (
        Measurement(name="macs/before", value=before[0] / 1e6, unit="M"),
        Measurement(name="macs/after", value=after[0] / 1e6, unit="M"),
        Measurement(name="macs/ratio", value=after[0] / before[0], unit="x", of="multiply-adds before"),
        Measurement(name="parameters/before", value=before[1] / 1e6, unit="M"),
        Measurement(name="parameters/after", value=after[1] / 1e6, unit="M"),
        Measurement(name="parameters/ratio", value=after[1] / before[1], unit="x", of="parameters before"),
    )
    tables = [Table(title="Channels per layer", rows=tuple(rows))]
    if left:
        stays = tuple({"layer": name, "channels": now.get(name, ""), "why": why} for name, why in left.items())
        tables.append(Table(title="What was left as it is", rows=stays))
    return Report(rows=measured + _ticket_rows(net), tables=tuple(tables), notes=_notes(left))


def _notes(left: Mapping[str, str]) -> tuple[str, ...]:
    notes = [f"{layer} is left as it is: {why}" for layer, why in left.items()]
    return (*notes[:SHOWN], *([f"{len(notes) - SHOWN} more are in the table"] if len(notes) > SHOWN else []))


def _ticket_rows(net: Net) -> tuple[Measurement, ...]:
    if not net.kept():
        return ()
    mask = Mask.of(net)
    of = "prunable weights that survive"
    return (Measurement(name="sparsity/survivors", value=100 * mask.sparsity, unit="%", n=mask.counts[1], of=of),)
