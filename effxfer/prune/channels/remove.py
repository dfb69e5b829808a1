"""Remove whole channels and attention heads, with everything tied to them (DepGraph, https://arxiv.org/abs/2301.12900)."""

from collections.abc import Mapping, Sequence

import torch

from effxfer.errors import SettingsError
from effxfer.net.edits import measure, record_resize
from effxfer.net.net import KEEP, Net
from effxfer.prune.channels.importance import Importance
from effxfer.prune.channels.pruner import Cut, Left
from effxfer.prune.channels.rule import Rule
from effxfer.prune.channels.selection import Scope
from effxfer.prune.graph.macs import cost
from effxfer.prune.graph.transaction import adopt_, example_of, traceable, widths
from effxfer.prune.weights.mask import Mask
from effxfer.prune.weights.scores.context import Losses
from effxfer.report import Measurement, Report, Table

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
            in (0, 1). Under `global`, channels come back where rounding left room.
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


@torch.no_grad()
def shrink_masks_(trial: Net) -> None:
    """Give masked layers masks of their new shape: what is exactly zero stays removed."""
    for name in trial.masks():
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
    if not net.masks():
        return ()
    mask = Mask.of(net)
    of = "prunable weights that survive"
    return (Measurement(name="sparsity/survivors", value=100 * mask.sparsity, unit="%", n=mask.counts[1], of=of),)
