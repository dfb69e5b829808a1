"""Select channels to remove by their scores.

A channel here is a position that goes or stays in all layers tied to it: in a network with residual connections many
layers share theirs, and a grouped convolution loses the same position in each of its groups.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Scope = Literal["layer", "global"]


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredChannels:
    """The channels of one set of tied layers.

    Attributes:
        layer: The name of the first of the tied layers.
        scores: Importance of each channel that is still there, `(D,)`; larger is more important.
        initial: Number of channels before any pruning, at least `D`.
        copies: Outputs of the layer per channel; above 1 in grouped convolutions.
        heads: Whether these are attention heads, of which a share is rounded so that more stay.
        within: The attention layer whose heads have this width: the heads that go count towards its share.
    """

    layer: str
    scores: Tensor
    initial: int
    copies: int = 1
    heads: bool = False
    within: str = ""

    def least(self, max_ratio: float, round_to: int) -> int:
        """Smallest number of channels that must stay."""
        # 1e-9: 10 * (1 - 0.7) is 3.0000000000000004 in float64.
        floor = max(1, math.ceil(self.initial * (1 - max_ratio) - 1e-9))
        return min(len(self.scores), self.round_up(floor, round_to))

    def round_up(self, channels: int, round_to: int) -> int:
        """Round up, to a multiple of `round_to` outputs."""
        step = self._step(round_to)
        return math.ceil(channels / step) * step

    def round_to_nearest(self, channels: int, round_to: int) -> int:
        """Round to the nearest multiple of `round_to` outputs."""
        step = self._step(round_to)
        # Not `round`, which takes halves to the even multiple.
        return math.floor(channels / step + 0.5) * step

    def _step(self, round_to: int) -> int:
        return round_to // math.gcd(round_to, self.copies)


def choose_channels(
    layers: Sequence[ScoredChannels], *, ratio: float, scope: Scope, round_to: int, max_ratio: float
) -> dict[str, list[int]]:
    """Choose the weakest channels for removal.

    Args:
        layers: Every set of tied layers.
        ratio: Share of the initial channels to remove, in [0, 1]; 0 removes nothing.
        scope: `layer` removes the same share everywhere; `global` ranks the channels of all layers together.
        round_to: The remaining number is rounded to a multiple of this, if the layer has as many; 1 is off.
        max_ratio: Largest share of its initial channels that a layer may lose, in [0, 1].

    Returns:
        By layer, the sorted positions to remove; layers that lose none are left out. Of equally important channels
        the earlier one goes first. A larger ratio removes a superset.
    """
    counts = (
        _counts_per_layer(layers, ratio, max_ratio)
        if scope == "layer"
        else _counts_over_all(layers, ratio, round_to, max_ratio)
    )
    plan: dict[str, list[int]] = {}
    for channels in layers:
        width = max(channels.round_to_nearest(counts[channels.layer], round_to), channels.least(max_ratio, round_to))
        surplus = len(channels.scores) - width
        if surplus > 0:
            # Stable: equal scores go in their order, whatever the machine's sort does.
            plan[channels.layer] = sorted(channels.scores.argsort(stable=True)[:surplus].tolist())
    return plan


def give_back_channels(plan: Mapping[str, list[int]], channels: ScoredChannels, round_to: int) -> dict[str, list[int]]:
    """Restore the best removed channels of one set, up to the next multiple of `round_to`.

    Returns:
        The plan without them; the same plan where the set loses none.
    """
    removed = plan.get(channels.layer, [])
    width = len(channels.scores)
    surplus = max(0, width - channels.round_up(width - len(removed) + 1, round_to))
    weakest = sorted(removed, key=lambda position: (float(channels.scores[position]), position))[:surplus]
    unchanged = {layer: positions for layer, positions in plan.items() if layer != channels.layer}
    return unchanged | ({channels.layer: sorted(weakest)} if weakest else {})


def _counts_per_layer(layers: Sequence[ScoredChannels], ratio: float, max_ratio: float) -> dict[str, int]:
    # Heads first, rounded up: what they leave over of the share is taken from their width below.
    counts = {c.layer: math.ceil(c.initial * (1 - ratio) - 1e-9) for c in layers if c.heads}
    heads = {c.layer: max(counts[c.layer], c.least(max_ratio, 1)) / c.initial for c in layers if c.heads}
    return counts | {
        c.layer: min(c.initial, round(c.initial * (1 - ratio) / heads.get(c.within, 1.0)))
        for c in layers
        if not c.heads
    }


def _counts_over_all(
    layers: Sequence[ScoredChannels], ratio: float, round_to: int, max_ratio: float
) -> Mapping[str, int]:
    counts = {c.layer: len(c.scores) for c in layers}
    least = {c.layer: c.least(max_ratio, round_to) for c in layers}
    surplus = sum(counts.values()) - round(sum(c.initial for c in layers) * (1 - ratio))
    # With the layer's number, so that ties have an order.
    ranked = sorted((score, i) for i, c in enumerate(layers) for score in c.scores.tolist())
    for _, i in ranked:
        if surplus <= 0:
            break
        layer = layers[i].layer
        if counts[layer] > least[layer]:
            counts[layer] -= 1
            surplus -= 1
    return counts
