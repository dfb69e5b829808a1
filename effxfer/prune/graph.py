"""Which layers must lose the same channels: torch-pruning's dependency graph, and the only place that imports it.

torch-pruning 1.6.1 shares its default dicts across pruners, so every one of them is passed here; and its LayerNorm
pruner sorts a copy of the surviving positions, which scrambles them where few survive, so it is replaced.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from effxfer.errors import ModelFileError
from effxfer.prune.channels import Channels

Plan = Mapping[str, Sequence[int]]
Score = Callable[[Any], Tensor | None]
OVER_CHANNELS = (nn.LayerNorm, nn.GroupNorm)


class Graph:
    """The dependencies between the channels of a network.

    Args:
        net: Its parameters must require gradients, because the graph is read off autograd.
        example: One input `(1, 3, S, S)`.
        fixed: Layers whose outputs stay.

    Raises:
        ModelFileError: If the network cannot be traced.
    """

    def __init__(self, net: nn.Module, example: Tensor, fixed: Sequence[nn.Module]) -> None:
        import torch_pruning as tp

        self.net, self.names = net, {module: name for name, module in net.named_modules()}
        try:
            with _quiet(), torch.enable_grad():
                self._pruner = tp.pruner.BasePruner(
                    net, example, importance=tp.importance.RandomImportance(), pruning_ratio=0.5,
                    forward_fn=lambda model, x: model(x), ignored_layers=list(fixed),
                    in_channel_groups={}, out_channel_groups={}, num_heads={}, customized_pruners=_layer_norms(net),
                )  # fmt: skip
        except Exception as error:  # whatever a foreign network raises inside autograd or torch-pruning
            raise ModelFileError(f"the network cannot be traced: {error}", HINT) from error
        self._fixed = list(fixed)

    def channels(self, score: Score, initial: dict[str, int]) -> list[Channels]:
        """Score every set of tied layers; `initial` learns how many channels each had when first seen.

        Raises:
            ModelFileError: Naming the first layer of a set whose dependencies are not understood.
        """
        found = []
        for group in self.groups():
            layer = self.names[group[0].dep.target.module]
            try:
                scores, copies = score(group), self.copies(group)
            except (IndexError, RuntimeError, ValueError) as error:  # positions that the tied layers lack
                raise ModelFileError(
                    f"what is tied to the channels of {layer} is not understood: {error}", HINT
                ) from error
            if scores is None:
                continue
            merged = scores.detach().float().cpu().view(copies, -1).mean(0)
            first = initial.setdefault(layer, len(merged))
            found.append(Channels(layer=layer, scores=merged, initial=first, copies=copies))
        return found

    def ties(self, layer: str, copies: int) -> tuple[dict[str, int], dict[str, int]]:
        """Count, by convolution or linear layer, the inputs and the outputs that go with one channel of a set."""
        reads, writes = dict[str, int](), dict[str, int]()
        for dep, idxs in self._group(layer, [0], copies):
            module = dep.target.module
            if isinstance(module, nn.modules.conv._ConvNd | nn.Linear):
                alone = depthwise(module)
                inwards = self._pruner.DG.is_in_channel_pruning_fn(dep.handler)
                for side, counts in ((inwards or alone, reads), (not inwards or alone, writes)):
                    if side:
                        name = self.names[module]
                        counts[name] = max(len(idxs), counts.get(name, 0)) if alone else counts.get(name, 0) + len(idxs)
        return reads, writes

    def prune_(self, plan: Plan, copies: Mapping[str, int]) -> None:
        """Remove channels, in place.

        Raises:
            ModelFileError: Naming the layer whose channels cannot be removed.
        """
        for layer, positions in plan.items():
            try:
                group = self._group(layer, positions, copies[layer])
                if not self._pruner.DG.check_pruning_group(group):
                    raise ValueError("a layer tied to it would lose all of its channels")
                group.prune()
            except Exception as error:  # index errors and assertions inside torch-pruning
                raise ModelFileError(f"the channels of {layer} cannot be removed: {error}", HINT) from error

    def outputs(self, plan: Plan, copies: Mapping[str, int]) -> dict[str, list[int]]:
        """Name the outputs that a plan leaves of each convolution or linear layer that loses some."""
        lost = dict[str, set[int]]()
        for layer, positions in plan.items():
            for dep, idxs in self._group(layer, positions, copies[layer]):
                module = dep.target.module
                if isinstance(module, nn.Conv2d | nn.Linear) and (self.makes(dep) or depthwise(module)):
                    lost.setdefault(self.names[module], set()).update(idxs)
        wide = {name: len(self.net.get_submodule(name).get_parameter("weight")) for name in lost}
        return {name: [i for i in range(wide[name]) if i not in gone] for name, gone in lost.items()}

    @torch.no_grad()
    def silence_(self, plan: Plan, copies: Mapping[str, int]) -> bool:
        """Cut channels off, in place, without removing them: they are zero, and nothing reads them any more.

        Returns:
            Whether removing them must give the same outputs: not so where a norm averages over channels.
        """
        exact = True
        for layer, positions in plan.items():
            for dep, idxs in self._group(layer, positions, copies[layer]):
                exact &= not isinstance(dep.target.module, OVER_CHANNELS)
                if self.reads(dep):
                    _cut_(dep.target.module, idxs)
                else:
                    _mute_(dep.target.module, idxs)
        return exact

    def groups(self) -> Iterator[Any]:
        """Give torch-pruning's groups: what is tied to all channels of a layer, the layer itself first."""
        roots = self._pruner.root_module_types
        yield from self._pruner.DG.get_all_groups(ignored_layers=self._fixed, root_module_types=roots)

    def _group(self, layer: str, positions: Sequence[int], copies: int) -> Any:
        graph, module = self._pruner.DG, self.net.get_submodule(layer)
        prune = graph.get_pruner_of_module(module).prune_out_channels
        block = graph.get_out_channels(module) // copies
        return graph.get_pruning_group(module, prune, [p + i * block for i in range(copies) for p in positions])

    def copies(self, group: Any) -> int:
        """How many outputs of its layer one channel stands for; above 1 in grouped convolutions."""
        return int(self._pruner._get_channel_groups(group))

    def makes(self, dep: Any) -> bool:
        """Whether a member of a group loses outputs with it."""
        return bool(self._pruner.DG.is_out_channel_pruning_fn(dep.handler))

    def reads(self, dep: Any) -> bool:
        """Whether a member of a group weighs its channels as inputs."""
        module = dep.target.module
        weighs = isinstance(module, nn.modules.conv._ConvNd | nn.Linear)
        return weighs and self._pruner.DG.is_in_channel_pruning_fn(dep.handler) and not depthwise(module)


def cost(net: nn.Module, example: Tensor) -> tuple[int, int]:
    """Count multiply-adds for one input (as torch-pruning does: norms and biases too) and parameters."""
    import torch_pruning as tp

    with _quiet():
        macs, parameters = tp.utils.count_ops_and_params(net, example)
    return int(macs), int(parameters)


def magnitude() -> Score:
    """Score channels by the squared norm of the weights tied to them, averaged over layers; 1 is the set's mean."""
    import torch_pruning as tp

    score: Score = tp.importance.GroupMagnitudeImportance(
        p=2, group_reduction="mean", normalizer="mean", target_types=list(_WEIGHTS)
    )
    return score


def taylor() -> Score:
    """Score channels by weight times accumulated gradient, averaged over the tied layers; 1 is the set's mean."""
    import torch_pruning as tp

    score: Score = tp.importance.GroupTaylorImportance(
        group_reduction="mean", normalizer="mean", multivariable=False, target_types=list(_WEIGHTS)
    )
    return score


@contextmanager
def entering(net: nn.Module) -> Iterator[list[str]]:
    """Note the layers that a forward pass enters, the innermost last: the last one is where it fails."""
    seen: list[str] = []
    named = [(name, module) for name, module in net.named_modules() if name]
    handles = [m.register_forward_pre_hook(lambda _m, _x, name=name: seen.append(name)) for name, m in named]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def run(net: nn.Module, example: Tensor) -> Tensor:
    """Give a network's output.

    Raises:
        ModelFileError: Naming the layer in which it fails.
    """
    with entering(net) as seen:
        try:
            output: Tensor = net(example)
        except Exception as error:  # whatever a network with wrong sizes raises
            where = seen[-1] if seen else "its input"
            text = f"the pruned network fails in {where}: {error}"
            raise ModelFileError(text, HINT) from error
    return output


def depthwise(module: nn.Module) -> bool:
    """Whether a convolution has one filter per channel."""
    return isinstance(module, nn.modules.conv._ConvNd) and module.groups > 1 and module.groups == module.in_channels


HINT = "exclude the layer, or choose another backbone"
_WEIGHTS = (nn.modules.conv._ConvNd, nn.Linear, nn.modules.batchnorm._BatchNorm, nn.LayerNorm)


def _cut_(layer: nn.Module, positions: Sequence[int]) -> None:
    """Zero what a layer reads from some inputs, in place."""
    weight = layer.get_parameter("weight")
    groups = getattr(layer, "groups", 1)
    outputs, inputs = weight.shape[0] // groups, weight.shape[1]
    for position in positions:
        group, column = divmod(position, inputs)
        weight[group * outputs : (group + 1) * outputs, column] = 0


def _mute_(layer: Any, positions: Sequence[int]) -> None:
    """Make some outputs of a layer zero, in place, where it has weights or statistics per channel."""
    if not isinstance(layer, nn.modules.conv._ConvNd | nn.Linear | nn.modules.batchnorm._BatchNorm):
        return
    for leaf in ("weight", "bias", "running_mean"):
        tensor = getattr(layer, leaf, None)
        if tensor is not None:
            tensor[list(positions)] = 0


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what torch-pruning says about parameters and operations that it treats by default rules."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Unwrapped parameters detected", UserWarning)
        warnings.filterwarnings("ignore", ".*Unknown operation", UserWarning)
        yield


def _layer_norms(net: nn.Module) -> dict[Any, Any]:
    """Pruners for every kind of LayerNorm in the network, which keep the surviving positions in order."""
    import torch_pruning as tp

    class Ordered(tp.function.LayernormPruner):  # type: ignore[misc]
        def prune_out_channels(self, layer: nn.LayerNorm, idxs: Sequence[int]) -> nn.Module:
            gone = set(idxs)
            keep = [i for i in range(layer.normalized_shape[-1]) if i not in gone]
            for leaf in ("weight", "bias"):
                old = getattr(layer, leaf, None)
                if old is not None:
                    setattr(layer, leaf, self._prune_parameter_and_grad(old, keep, -1))
            layer.normalized_shape = (*layer.normalized_shape[:-1], len(keep))
            return layer

        prune_in_channels = prune_out_channels

    return {kind: Ordered() for kind in {type(m) for m in net.modules()} if issubclass(kind, nn.LayerNorm)}
