"""Pool the feature maps of several layers into one vector, for heads that do more than average them.

GeM: Radenović et al. 2018, https://arxiv.org/abs/1711.02512. Attention: Ilse et al. 2018,
https://arxiv.org/abs/1802.04712. Bilinear, of low rank: Lin et al. 2015, https://arxiv.org/abs/1504.07889, and Kong &
Fowlkes 2017, https://arxiv.org/abs/1611.05109. Mixture: Jacobs et al. 1991, "Adaptive Mixtures of Local Experts".

Shape legend: B batch, D channels of one layer, h and w sides of its map, P numbers that one layer gives, T layers.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from effxfer.net.heads.spec import HeadSpec

# As in the code of Radenović et al.: at 0 the derivative by the exponent would be 0 times log 0.
TINY = 1e-6
# The root's slope is infinite at 0; with it, at most 100.
ROOT = 1e-4
Affine = tuple[Tensor, Tensor]


def as_maps(output: Tensor, grid: int = 0) -> Tensor:
    """Convert a layer's output into maps `(B, D, h, w)`.

    Args:
        output: Maps `(B, D, h, w)`; tokens `(B, n, D)`, which become a column of n; or features `(B, D)`.
        grid: Average over windows, so that a side of at least this many positions is reduced to less than twice as
            many; 0 for no reduction. Tokens are never reduced.
    """
    if output.dim() == 3:
        return output.transpose(1, 2).unsqueeze(3)
    if output.dim() == 2:
        return output[:, :, None, None]
    windows = [max(1, side // grid) for side in output.shape[2:]] if grid else [1, 1]
    return F.avg_pool2d(output, windows) if max(windows) > 1 else output


class MeanPool(nn.Module):
    """The average over positions, the input of every plain head."""

    def __init__(self, _spec: HeadSpec, channels: int) -> None:
        super().__init__()
        self.gives = channels

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, D, h, w)` to `(B, D)`."""
        return x.mean((2, 3))

    def fold_(self, mean: Tensor, deviation: Tensor) -> Affine:
        """See `Pool.fold_`."""
        return deviation, mean


class GemPool(nn.Module):
    """Generalised mean: `mean(max(x, 0)^p)^(1/p)`; p = 1 averages the positive part, a large p takes the maximum."""

    def __init__(self, spec: HeadSpec, channels: int) -> None:
        super().__init__()
        self.gives = channels
        power = torch.tensor(float(spec.power))
        if spec.learn_power:
            self.power: Any = nn.Parameter(power)
        else:
            self.power = spec.power

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, D, h, w)` to `(B, D)`."""
        # The bounds of `HeadSpec.power`: training must not leave what can be saved.
        p = self.power.clamp(1.0, 32.0) if isinstance(self.power, Tensor) else self.power
        powers = x.clamp_min(TINY).pow(p).mean((2, 3))
        # 1e-6 to the power of 7 is below float32's normal numbers, and a root of 0 has no finite slope.
        return powers.clamp_min(torch.finfo(torch.float32).tiny).pow(1 / p)

    def fold_(self, mean: Tensor, deviation: Tensor) -> Affine:
        """See `Pool.fold_`: its input is taken as it is."""
        return torch.ones_like(deviation), torch.zeros_like(mean)


class AttentionPool(nn.Module):
    """Averages whose weights over positions are a softmax of a linear score, one for each query; 0 scores: the mean."""

    def __init__(self, spec: HeadSpec, channels: int) -> None:
        super().__init__()
        self.gives = channels * spec.queries
        self.score = nn.Conv2d(channels, spec.queries, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, D, h, w)` to `(B, queries * D)`."""
        weights = self.score(x).flatten(2).softmax(2)
        return torch.matmul(weights, x.flatten(2).transpose(1, 2)).flatten(1)

    def fold_(self, mean: Tensor, deviation: Tensor) -> Affine:
        """See `Pool.fold_`: a shift of all scores changes nothing."""
        self.score.weight.div_(deviation[:, None, None])
        queries = len(self.score.weight)
        return deviation.repeat(queries), mean.repeat(queries)


class BilinearPool(nn.Module):
    """The average, and beside it the mean products of each two of `rank` linear combinations of channels.

    Products are brought to the sign and the root of their size, as is usual.
    """

    def __init__(self, spec: HeadSpec, channels: int) -> None:
        super().__init__()
        self.gives = channels + spec.rank**2
        self.reduce = nn.Conv2d(channels, spec.rank, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, D, h, w)` to `(B, D + rank * rank)`."""
        reduced = self.reduce(x).flatten(2)
        products = (torch.matmul(reduced, reduced.transpose(1, 2)) / reduced.shape[2]).flatten(1)
        return torch.cat([x.mean((2, 3)), products / (products.abs() + ROOT).sqrt()], 1)

    def fold_(self, mean: Tensor, deviation: Tensor) -> Affine:
        """See `Pool.fold_`."""
        absorb_affine_(self.reduce, mean, deviation)
        products = len(self.reduce.weight) ** 2
        return torch.cat([deviation, deviation.new_ones(products)]), torch.cat([mean, mean.new_zeros(products)])


class Mixture(nn.Module):
    """Brings layers to one width and adds them up, with weights that a gate finds for each image: a softmax."""

    def __init__(self, inputs: Sequence[int], width: int) -> None:
        super().__init__()
        self.gives = width
        self.experts = nn.ModuleList(nn.Linear(features, width) for features in inputs)
        self.gates = nn.ModuleList(nn.Linear(features, len(inputs)) for features in inputs)

    def forward(self, xs: Sequence[Tensor]) -> Tensor:
        """Map T times `(B, P)` to `(B, width)`."""
        votes = torch.stack([gate(x) for gate, x in zip(self.gates, xs, strict=True)]).sum(0)
        # Averaged, so that with more layers the gate is not sharper from the start.
        shares = (votes / len(xs)).softmax(1).unsqueeze(2)
        outputs = torch.stack([expert(x) for expert, x in zip(self.experts, xs, strict=True)], 1)
        return (outputs * shares).sum(1)

    def fold_(self, affines: Sequence[Affine]) -> Affine:
        """See `Pool.fold_`: for each layer, what its vector is now divided by, and less."""
        for expert, gate, (scale, shift) in zip(self.experts, self.gates, affines, strict=True):
            for layer in (expert, gate):
                absorb_affine_(layer, shift, scale)
        like = self.experts[0].get_parameter("weight")
        return like.new_ones(self.gives), like.new_zeros(self.gives)


POOLS: dict[str, type[MeanPool | GemPool | AttentionPool | BilinearPool]] = {
    "attention": AttentionPool,
    "bilinear": BilinearPool,
    "gem": GemPool,
    "mean": MeanPool,
}


class MapReader(nn.Module):
    """A part of a head that makes the head's input of unaveraged layers."""


class Pool(MapReader):
    """The part of a head that pools unaveraged layers.

    Args:
        spec: `pool`, `join`, `grid` and their settings are used.
        channels: Channels of each layer.

    Attributes:
        gives: Width of the pooled vector.
    """

    def __init__(self, spec: HeadSpec, channels: Sequence[int]) -> None:
        super().__init__()
        self.grid = spec.grid
        each = [POOLS[spec.pool](spec, width) for width in channels]
        self.each = nn.ModuleList(each)
        widths = [pool.gives for pool in each]
        self.mixture: Mixture | None = Mixture(widths, spec.mix) if spec.join == "gate" else None
        self.gives = self.mixture.gives if self.mixture else sum(widths)

    def forward(self, outputs: Sequence[Tensor]) -> Tensor:
        """Map what layers give, see `as_maps`, to `(B, gives)`."""
        pooled = [pool(as_maps(output, self.grid)) for pool, output in zip(self.each, outputs, strict=True)]
        if self.mixture:
            return self.mixture(pooled)  # type: ignore[no-any-return]
        return pooled[0] if len(pooled) == 1 else torch.cat(pooled, 1)

    @torch.no_grad()
    def fold_(self, statistics: Sequence[Affine]) -> Affine:
        """Fold the standardisation of the input layers into the weights, in place; the input is then unstandardised.

        Args:
            statistics: Mean and deviation `(D,)` of each layer's channels, by which they were standardised; the
                input of GeM must have been unstandardised.

        Returns:
            Scale and shift `(gives,)`: the new output is `scale` times the former one, plus `shift`.
        """
        each: Any = self.each
        affines = [pool.fold_(*affine) for pool, affine in zip(each, statistics, strict=True)]
        if self.mixture is not None:
            return self.mixture.fold_(affines)
        return torch.cat([scale for scale, _ in affines]), torch.cat([shift for _, shift in affines])


def pool_of(head: nn.Module) -> MapReader | None:
    """Return the part of a head that takes unaveraged layers; None if it takes concatenated averages."""
    head_pool = getattr(head, "pool", None)
    return head_pool if isinstance(head_pool, MapReader) else None


def absorb_affine_(layer: Any, mean: Tensor, deviation: Tensor) -> None:
    """Fold `(x - mean) / deviation` into a linear layer or convolution with a bias, in place."""
    weight = layer.weight
    flat = weight.double().flatten(1) / deviation.double()
    layer.bias.copy_((layer.bias.double() - flat @ mean.double()).to(weight.dtype))
    weight.copy_(flat.view_as(weight).to(weight.dtype))
