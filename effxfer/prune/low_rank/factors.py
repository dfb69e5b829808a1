"""Factors of layers by the outputs that they have on images: the linear case of Zhang et al., 2015.

https://arxiv.org/abs/1505.06798: of all layers of rank r, the projection of the outputs on their r principal directions
loses least of them. Truncating the singular values of the weights, as Denton et al., 2014 do
(https://arxiv.org/abs/1404.0736), is the same with outputs of white inputs.

Shape legend: O outputs, r the rank.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from effxfer.net.compression.low_rank_layer import LowRankLayer
from effxfer.net.hooks import as_evaluated, hooks
from effxfer.prune.recovery.least_squares import Grid


@dataclass(frozen=True, kw_only=True, eq=False)
class Spectrum:
    """Principal directions of a layer's outputs.

    Attributes:
        energies: Their mean squares, descending, `(O,)`, in float64.
        directions: `(O, O)`, one in each column, in the same order.
        mean: What is not projected, `(O,)`: the mean outputs of a layer with a bias, else zeros.
    """

    energies: Tensor
    directions: Tensor
    mean: Tensor

    def loss(self, rank: int) -> float:
        """Return the share of the outputs' energy that a rank loses, in [0, 1]."""
        return float(self.energies[rank:].sum() / self.energies.sum().clamp_min(torch.finfo(torch.float64).tiny))


def spectrum_of(second_moment: Tensor, mean: Tensor | None) -> Spectrum:
    """Return the spectrum of outputs of a second moment `(O, O)`, around a mean `(O,)` if a bias can hold it."""
    centre = torch.zeros_like(second_moment[0]) if mean is None else mean
    energies, directions = torch.linalg.eigh(second_moment - torch.outer(centre, centre))
    return Spectrum(energies=energies.flip(0).clamp_min(0), directions=directions.flip(1), mean=centre)


def weight_spectrum(layer: Any) -> Spectrum:
    """Return the spectrum without data: that of the weights' outputs on white inputs."""
    rows = layer.weight.detach().flatten(1).double()
    return spectrum_of(rows @ rows.T, None)


@torch.no_grad()
def output_spectra(net: nn.Module, names: Sequence[str], batches: Iterable[Tensor]) -> dict[str, Spectrum]:
    """Measure the spectra of layers' outputs.

    Args:
        net: The network; not changed.
        names: Its convolutions and linear layers.
        batches: Training images `(B, 3, S, S)`; at most 8 x 8 positions of each are looked at.
    """
    sums = dict[str, tuple[Tensor, Tensor, int]]()

    def note(name: str, number: list[int]) -> Callable[..., None]:
        def hook(layer: nn.Module, _inputs: Any, output: Tensor) -> None:
            part = Grid.of(layer, output, number[0]).outputs(layer, output).double()
            rows = part.flatten(0, -2) if isinstance(layer, nn.Linear) else part.transpose(0, 1).flatten(1).T
            moment, total, count = sums.get(name, (0.0, 0.0, 0))
            sums[name] = moment + rows.T @ rows, total + rows.sum(0), count + len(rows)
            number[0] += 1

        return hook

    with as_evaluated(net), hooks(net.get_submodule(n).register_forward_hook(note(n, [0])) for n in names):
        for images in batches:
            net(images)
    biased = {name: net.get_submodule(name).bias is not None for name in names}
    return {
        name: spectrum_of(moment / count, total / count if biased[name] else None)
        for name, (moment, total, count) in sums.items()
    }


@torch.no_grad()
def set_factors_(net: nn.Module, dense: nn.Module, spectra: Mapping[str, Spectrum]) -> None:
    """Set both factors of each layer that `factorize` replaced: project its outputs on their first directions.

    Args:
        net: The network with the factors, changed in place.
        dense: The network before.
        spectra: By layer.
    """
    for name, spectrum in spectra.items():
        pair, layer = net.get_submodule(name), dense.get_submodule(name)
        if isinstance(pair, LowRankLayer):
            _set_pair_(pair, layer, spectrum)


def _set_pair_(pair: Any, layer: Any, spectrum: Spectrum) -> None:
    weight = layer.weight.double()
    directions = spectrum.directions[:, : len(pair.first.weight)]
    pair.first.weight.copy_((directions.T @ weight.flatten(1)).view(-1, *weight.shape[1:]))
    pair.second.weight.copy_(directions.view(pair.second.weight.shape))
    if layer.bias is not None:
        centred = layer.bias.double() - spectrum.mean
        pair.second.bias.copy_(directions @ (directions.T @ centred) + spectrum.mean)
