"""How units are chosen: what each is worth, and how many of each kind go."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from effxfer.prune.channels.importance import Importance, magnitude, taylor
from effxfer.prune.channels.selection import Scope, ScoredChannels, choose
from effxfer.prune.graph.groups import Units
from effxfer.prune.weights.scores.context import Losses

Gone = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How channels, heads and hidden units are chosen.

    Attributes:
        importance: `magnitude` or `taylor`, see `unit_scores`.
        scope: `layer` removes the same share everywhere; `global` ranks all units together.
        round_to: Channels that remain are a multiple of this where a layer has that many; 1 does not round.
        max_ratio_per_layer: Largest share of its units that a layer may lose, in (0, 1).
        examples: Gives the losses of some batches under the network that it is passed; used by `taylor` only.
        squared: Whether magnitudes are squared norms, which differ more between units.
    """

    importance: Importance
    scope: Scope = "layer"
    round_to: int = 1
    max_ratio_per_layer: float = 0.9
    examples: Losses | None = None
    squared: bool = False

    def scored(
        self, net: nn.Module, units: Sequence[Units], gone: Mapping[str, Tensor], initial: Mapping[str, int]
    ) -> list[ScoredChannels]:  # fmt: skip
        """Score the units that are not gone `(U,)`; `initial` says how many of each kind there were at first.

        Raises:
            SettingsError: If examples are lacking.
            ModelFileError: If a weight is NaN or infinite.
        """
        first_order = self.importance == "taylor"
        scores = taylor(net, units, gone, self.examples) if first_order else magnitude(net, units, gone)
        power = 2 if self.squared and not first_order else 1
        return [
            ScoredChannels(
                layer=one.layer, scores=_relative(scores[one.layer][~gone[one.layer]] ** power),
                initial=initial[one.layer], copies=self.round_to if one.heads else one.copies, whole=one.heads,
                within=one.within,
            )
            for one in units
        ]  # fmt: skip

    def plan(self, layers: Sequence[ScoredChannels], ratio: float) -> dict[str, list[int]]:
        """Choose the weakest units such that a share of all, in [0, 1], is gone: positions among the scores."""
        return choose(
            layers, ratio=ratio, scope=self.scope, round_to=self.round_to, max_ratio=self.max_ratio_per_layer
        )  # fmt: skip


def none_gone(units: Sequence[Units]) -> Gone:
    """Mark no unit as gone."""
    return {one.layer: torch.zeros(one.count, dtype=torch.bool) for one in units}


def _relative(scores_U: Tensor) -> Tensor:
    return scores_U / scores_U.mean().clamp_min(1e-30)
