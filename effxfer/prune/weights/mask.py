"""Weight masks: one boolean tensor per prunable weight, which the network keeps through later stages."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from effxfer.errors import EffxferError, ModelFileError, SettingsError, did_you_mean
from effxfer.net.net import Net
from effxfer.prune.network import edit_, masks_of, prunable_modules


@dataclass(frozen=True, eq=False)
class Mask:
    """A boolean tensor per prunable weight; true means keep.

    Attributes:
        keep: Masks by the weight's name, e.g. `body.stem.0.weight`, of its shape and on its device.
    """

    keep: dict[str, Tensor]

    @classmethod
    def full(cls, net: nn.Module, exclude: Sequence[str] = ()) -> "Mask":
        """Keep every prunable weight.

        Prunable are the weights of convolutions, linear layers and attention projections: of a `Net` those of its
        body, of any other module all, the last layer's too unless `exclude` names it. Not prunable are biases, norms,
        and depthwise convolutions: those hold one filter per channel and few of all weights (1 % in MobileNetV2), and
        the sparse MobileNets of https://arxiv.org/abs/1911.09723 leave them dense, too.

        Args:
            net: Any network.
            exclude: Shell patterns (`body.stem.*`) of layers or weights to leave alone; empty leaves none out.

        Raises:
            SettingsError: If a pattern matches no prunable weight, or nothing is left to prune.
        """
        weights = prunable_weights(net)
        left_out = match_patterns(exclude, list(weights))
        keep = {n: torch.ones_like(w, dtype=torch.bool) for n, w in weights.items() if n not in left_out}
        if not keep:
            raise SettingsError("no weight is left to prune", "give fewer patterns in `exclude`")
        return cls(keep)

    @classmethod
    def of(cls, net: nn.Module, exclude: Sequence[str] = ()) -> "Mask":
        """Return the ticket that a `Net` holds; a full mask if it holds none, and of any other module.

        Args:
            net: Any network.
            exclude: See `full`; from a ticket, layers that should lose no further weights.

        Raises:
            SettingsError: As `full`.
        """
        stored = {name: keep.clone() for name, keep in masks_of(net).items()}
        if not stored:
            return cls.full(net, exclude)
        left_out = match_patterns(exclude, list(stored))
        return cls({name: keep for name, keep in stored.items() if name not in left_out})

    @property
    def counts(self) -> tuple[int, int]:
        """Number of surviving weights, and of prunable weights."""
        return sum(int(k.sum()) for k in self.keep.values()), sum(k.numel() for k in self.keep.values())

    @property
    def sparsity(self) -> float:
        """The removed share of the prunable weights, in [0, 1]; 0 removes nothing."""
        surviving, total = self.counts
        return 1 - surviving / total if total else 0.0

    @torch.no_grad()
    def store_(self, net: nn.Module) -> None:
        """Zero the removed weights in place; a `Net` holds on to the mask, in later stages too.

        A ticket that a `Net` already holds only shrinks: what either of the two removes is removed.

        Raises:
            ModelFileError: If the mask does not fit the network's weights.
        """
        if not isinstance(net, Net):
            self.apply_(net)
            return
        masks = self._ensure_masks(net)
        for name, keep in self.keep.items():
            # A ticket only shrinks.
            masks[name].logical_and_(keep.to(masks[name].device))
        net.apply_masks_()

    @torch.no_grad()
    def replace_(self, net: Net) -> None:
        """Make the network hold this mask instead of the one it holds, and zero what it removes.

        Weights that were removed and are no longer stay zero until they are trained or loaded.

        Raises:
            ModelFileError: As `store_`.
        """
        masks = self._ensure_masks(net)
        for name, keep in self.keep.items():
            masks[name].copy_(keep)
        net.apply_masks_()

    @torch.no_grad()
    def apply_(self, net: nn.Module) -> None:
        """Zero the removed weights in place, without making the network remember them.

        Raises:
            ModelFileError: If the mask does not fit the network's weights.
        """
        self._check_fits(net)
        for name, keep in self.keep.items():
            weight = net.get_parameter(name)
            weight.mul_(keep.to(weight.device))

    def check_zero(self, net: nn.Module) -> None:
        """Check that every removed weight is zero.

        Raises:
            EffxferError: Naming the first layer with revived weights.
        """
        for name, keep in self.keep.items():
            weight = net.get_parameter(name).detach()
            revived = int((weight[~keep.to(weight.device)] != 0).sum())
            if revived:
                hint = "call mask.apply_(network) after every optimizer step"
                raise EffxferError(f"training revived {revived} removed weights of {name}", hint)

    def _ensure_masks(self, net: Net) -> dict[str, Tensor]:
        self._check_fits(net)
        unmasked = [name for name in self.keep if name not in net.masks()]
        if unmasked:
            edit_(net, "sparsify", weights=unmasked)
        return net.masks()

    def _check_fits(self, net: nn.Module) -> None:
        weights = dict(net.named_parameters())
        for name, keep in self.keep.items():
            if name not in weights:
                near = did_you_mean(name, weights)
                raise ModelFileError(f"the mask names {name}, which the network lacks{near}", code="E410")
            if weights[name].shape != keep.shape:
                shapes = f"{tuple(keep.shape)}, the weight {tuple(weights[name].shape)}"
                raise ModelFileError(f"the mask of {name} has shape {shapes}", code="E410")


def prunable_weights(net: nn.Module) -> dict[str, Tensor]:
    """Return the weights that unstructured pruning may remove, by name; `Mask.full` says which those are."""
    owned = {
        # By identity: tied weights have several names, and are masked once.
        id(getattr(module, leaf)): True
        for _, module in prunable_modules(net)
        for leaf in ("weight", "in_proj_weight")
        if _has_prunable(module, leaf)
    }
    return {name: weight for name, weight in net.named_parameters() if id(weight) in owned}


def match_patterns(patterns: Sequence[str], names: Sequence[str]) -> set[str]:
    """Return the weights whose name or layer name matches one of the shell patterns.

    Raises:
        SettingsError: Naming a pattern that matches nothing, with the nearest names.
    """
    matches: set[str] = set()
    for pattern in patterns:
        hits = {n for n in names if fnmatchcase(n, pattern) or fnmatchcase(n.rpartition(".")[0], pattern)}
        if not hits:
            layers = [n.rpartition(".")[0] for n in names]
            hint = f"layers are: {', '.join(layers[:8])}{' ...' if len(layers) > 8 else ''}"
            raise SettingsError(f"exclude pattern {pattern!r} matches nothing{did_you_mean(pattern, layers)}", hint)
        matches |= hits
    return matches


def _has_prunable(module: nn.Module, leaf: str) -> bool:
    if isinstance(module, nn.MultiheadAttention):
        return leaf == "in_proj_weight" and module.in_proj_weight is not None
    if isinstance(module, nn.modules.conv._ConvNd):
        return leaf == "weight" and not (module.groups > 1 and module.groups == module.in_channels)
    return isinstance(module, nn.Linear) and leaf == "weight"
