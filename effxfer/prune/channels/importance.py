"""Importance of channels, heads and hidden units over all weights tied to them, and the rule that selects them.

Shape suffixes: K channels of one layer, U units.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from effxfer.errors import ModelFileError, SettingsError
from effxfer.prune.channels.selection import Scope, ScoredChannels, choose_channels
from effxfer.prune.graph.groups import Places, RemovedUnits, Units
from effxfer.prune.weights.scores.context import Losses

Importance = Literal["magnitude", "taylor"]
# Chosen: under `global`, a whole layer may look weak; a tenth of it keeps the network connected.
MAX_RATIO_PER_LAYER = 0.9


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How channels, heads and hidden units are chosen.

    Attributes:
        importance: `magnitude` or `taylor`, see the functions of that name.
        scope: `layer` removes the same share everywhere; `global` ranks all units together.
        round_to: Channels that remain are a multiple of this where a layer has that many; 1 does not round.
        max_ratio_per_layer: Largest share of its units that a layer may lose, in (0, 1).
        examples: Function from a network to its losses on some batches; used by `taylor` only.
        squared: Whether magnitudes are squared norms, which differ more between units.
    """

    importance: Importance
    scope: Scope = "layer"
    round_to: int = 1
    max_ratio_per_layer: float = MAX_RATIO_PER_LAYER
    examples: Losses | None = None
    squared: bool = False

    def score_units(
        self, net: nn.Module, units: Sequence[Units], removed: Mapping[str, Tensor], initial: Mapping[str, int]
    ) -> list[ScoredChannels]:  # fmt: skip
        """Score the units that are not removed; `initial` is the number of units per layer before the first step.

        Raises:
            SettingsError: If examples are lacking.
            ModelFileError: If a weight is NaN or infinite.
        """
        first_order = self.importance == "taylor"
        scores = taylor(net, units, removed, self.examples) if first_order else magnitude(net, units, removed)
        # Taylor's scores are changes of the loss already, and add up.
        power = 2 if self.squared and not first_order else 1
        return [
            ScoredChannels(
                layer=group.layer, scores=_by_mean(scores[group.layer][~removed[group.layer]] ** power),
                initial=initial[group.layer], copies=self.round_to if group.heads else group.copies, heads=group.heads,
                within=group.within,
            )
            for group in units
        ]  # fmt: skip

    def plan(self, layers: Sequence[ScoredChannels], ratio: float) -> dict[str, list[int]]:
        """Choose the weakest units until a share of all, in [0, 1], is removed; return positions among the scores."""
        return choose_channels(
            layers, ratio=ratio, scope=self.scope, round_to=self.round_to, max_ratio=self.max_ratio_per_layer
        )  # fmt: skip


def no_units(units: Sequence[Units]) -> RemovedUnits:
    """Return a mask per layer that removes no unit."""
    return {group.layer: torch.zeros(group.count, dtype=torch.bool) for group in units}


def _by_mean(scores_U: Tensor) -> Tensor:
    # 1e-30: a layer whose weights are all zero has no mean to divide by.
    return scores_U / scores_U.mean().clamp_min(1e-30)


def magnitude(net: nn.Module, units: Sequence[Units], removed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the L2 norm of all weights that write or read each unit.

    Args:
        net: The trained network.
        units: All units.
        removed: Units to ignore `(U,)`, by layer.

    Returns:
        By layer, `(U,)`: 1 is the mean of the units that are not removed.

    Raises:
        ModelFileError: If a weight is NaN or infinite.
    """
    # Sums over a residual stream run over millions of squares.
    parameters = {name: p.detach().cpu().double() for name, p in net.named_parameters()}
    scores = {}
    for group in units:
        power = torch.zeros(group.count, dtype=torch.double)
        for name, places, reading in _tied_places(group):
            weight = parameters.get(f"{name}.weight")
            if weight is not None:
                power += group.total(places, per_channel(weight.square(), net.get_submodule(name), reading))
        if not bool(power.isfinite().all()):
            raise ModelFileError(f"what is tied to {group.layer} holds NaN or infinity", "prune an intact network")
        scores[group.layer] = _relative_scores(power.sqrt(), removed[group.layer])
    return scores


def taylor(
    net: nn.Module, units: Sequence[Units], removed: Mapping[str, Tensor], examples: Losses | None
) -> dict[str, Tensor]:
    """Estimate how much the loss changes without each unit (https://arxiv.org/abs/1906.10771, equation 8).

    Weight times gradient is summed over the weights that make a unit; of that the root mean square over batches.

    Args:
        net: The trained network.
        units: All units.
        removed: Units to ignore `(U,)`, by layer.
        examples: Function from a network to its losses on some batches.

    Returns:
        By layer, `(U,)`: 1 is the mean of the units that are not removed.

    Raises:
        SettingsError: If there are no examples.
    """
    if examples is None:
        raise SettingsError("taylor importance needs examples", "pass losses, or use importance = 'magnitude'")
    # On a copy: frozen weights need gradients here, too.
    trial = deepcopy(net).eval().requires_grad_(True)
    scores = {group.layer: torch.zeros(group.count, dtype=torch.double) for group in units}
    with torch.enable_grad():
        for loss in examples(trial):
            trial.zero_grad(set_to_none=True)
            loss.backward()
            for group in units:
                # Squared before it is summed: over batches, changes of either sign would cancel.
                scores[group.layer] += _saliency(trial, group).square()
    return {group.layer: _relative_scores(scores[group.layer].sqrt(), removed[group.layer]) for group in units}


def _relative_scores(scores_U: Tensor, removed_U: Tensor) -> Tensor:
    return scores_U / scores_U[~removed_U].mean().clamp_min(1e-30)


def _saliency(net: nn.Module, units: Units) -> Tensor:
    parameters = dict(net.named_parameters())
    total = torch.zeros(units.count, dtype=torch.double)
    for layer, places in units.makes.items():
        for name in (f"{layer}.weight", f"{layer}.bias"):
            weight = parameters.get(name)
            if weight is not None and weight.grad is not None:
                change = (weight * weight.grad).detach().cpu().double()
                total += units.total(places, change.reshape(len(change), -1).sum(1))
    return total


def _tied_places(units: Units) -> Iterator[tuple[str, Places, bool]]:
    yield from ((name, places, False) for name, places in units.makes.items())
    yield from ((name, places, True) for name, places in units.reads.items())


def per_channel(amount: Tensor, layer: nn.Module, reading: bool) -> Tensor:
    """Sum a per-weight amount over all weights of an output, or input, channel, `(K,)`."""
    if not reading:
        return amount.reshape(len(amount), -1).sum(1)
    groups = int(getattr(layer, "groups", 1))
    return amount.reshape(groups, amount.shape[0] // groups, amount.shape[1], -1).sum((1, 3)).flatten()
