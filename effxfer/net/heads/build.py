"""Build classifier heads on features of one or several layers: linear, cosine, MLP, prototypes, with any pooling.

Cosine heads: Gidaris and Komodakis 2018, "Dynamic Few-Shot Visual Learning without Forgetting",
https://arxiv.org/abs/1804.09458.

Shape legend: B batch, D features, C classes.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from effxfer.errors import SettingsError
from effxfer.net.heads.compare import Compare
from effxfer.net.heads.pools import Pool
from effxfer.net.heads.prototypes import Prototypes
from effxfer.net.heads.spec import OF_TASKS, HeadSpec
from effxfer.net.heads.standardize import TINY, Standardize

ACTIVATIONS: dict[str, type[nn.Module]] = {"gelu": nn.GELU, "hardswish": nn.Hardswish, "relu": nn.ReLU}
NORMS: dict[str, type[nn.Module]] = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


def build_head(spec: HeadSpec, features: int | Sequence[int], classes: int, embeddings: int = 0) -> nn.Module:
    """Build an untrained head.

    But for `compare`, its last layer is `head.out`, an `nn.Linear` with one row for each class. If `spec.pools`, it has
    a part `head.pool` that makes one vector of what layers give; the rest of the head maps that to logits.

    Args:
        spec: Specification of the head.
        features: Channels of each layer that feeds it, at least 1; their sum suffices for plain averages.
        classes: Number of classes, at least 1.
        embeddings: Numbers of a class that features are compared with; only for `compare`.

    Returns:
        A module that maps one vector for each image `(B, ...)` to logits `(B, classes)`.

    Raises:
        SettingsError: For label words, whose head is made of the network's own.
    """
    if spec.kind == "label_words":
        raise SettingsError("a head of label words is made of a network's head", "use the strategy `prompt`")
    if spec.kind in OF_TASKS:
        raise SettingsError(
            f"a head of kind {spec.kind} serves several tasks, this is one", "leave out options.sharing"
        )
    if spec.kind == "compare":
        return Compare(spec.form, features if isinstance(features, int) else sum(features), classes, embeddings)
    channels = [features] if isinstance(features, int) else list(features)
    if not spec.pools:
        return _build_classifier(spec, sum(channels), classes)
    pool = Pool(spec, channels)
    head = _build_classifier(spec, pool.gives, classes)
    head.pool = pool
    return head


def head_parameters(spec: HeadSpec, features: int | Sequence[int], classes: int) -> int:
    """Count the parameters of a head; its multiply-adds per image have the same order of magnitude."""
    with torch.device("meta"):
        return sum(p.numel() for p in build_head(spec, features, classes).parameters())


class Layers(nn.Sequential):
    """Sequential layers that skip a child named `pool`, which the network calls itself."""

    def forward(self, x: Tensor) -> Tensor:
        """Map one vector for each image to `(B, C)`."""
        for name, layer in self.named_children():
            x = x if name == "pool" else layer(x)
        return x


class Cosine(nn.Module):
    """Logits are `scale * cos(x, w_c)`."""

    def __init__(self, spec: HeadSpec, features: int, classes: int) -> None:
        super().__init__()
        self.standardize = Standardize(features) if spec.standardize else nn.Identity()
        self.dropout = nn.Dropout(spec.dropout)
        # A bias would prefer a class whatever the angle.
        self.out = nn.Linear(features, classes, bias=False)
        scale = torch.tensor(float(spec.scale))
        if spec.learn_scale:
            self.scale = nn.Parameter(scale)
        else:
            self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, D)` to `(B, C)`."""
        x = self.dropout(self.standardize(x))
        unit = x / x.norm(dim=1, keepdim=True).clamp_min(TINY)
        length = self.out.weight.norm(dim=1).clamp_min(TINY)
        logits: Tensor = self.out(unit) * (self.scale / length)
        return logits


@torch.no_grad()
def fold_standardize(spec: HeadSpec, state: dict[str, Tensor]) -> tuple[HeadSpec, dict[str, Tensor]]:
    """Merge the standardisation of a trained head into its first layer, exactly up to rounding.

    A cosine head is unchanged: there standardisation changes the angles.

    Returns:
        The spec without standardisation and matching weights; or both unchanged.
    """
    if spec.kind == "cosine" or not spec.standardize:
        return spec, state
    first = ("reduce" if spec.bottleneck else "hidden0") if spec.kind == "mlp" else "out"
    folded = {name: tensor for name, tensor in state.items() if not name.startswith("standardize.")}
    # Double: products of large means and weights would lose what standardisation had taken out.
    mean = state["standardize.running_mean"].double()
    deviation = (state["standardize.running_var"].double() + TINY).sqrt()
    weight = state[f"{first}.weight"].double() / deviation
    folded[f"{first}.weight"] = weight.float()
    folded[f"{first}.bias"] = (state[f"{first}.bias"].double() - weight @ mean).float()
    return spec.model_copy(update={"standardize": False}), folded


def _build_classifier(spec: HeadSpec, features: int, classes: int) -> nn.Module:
    if spec.kind == "cosine":
        return Cosine(spec, features, classes)
    if spec.kind == "prototypes":
        return Prototypes(spec, features, classes)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if spec.standardize:
        layers["standardize"] = Standardize(features)
    if spec.kind == "mlp":
        if spec.bottleneck:
            layers["reduce"] = nn.Linear(features, spec.bottleneck)
        for i in range(spec.depth):
            layers |= _hidden_layers(spec, i, (spec.bottleneck or features) if i == 0 else spec.width)
        features = spec.width
    elif spec.dropout:
        layers["dropout"] = nn.Dropout(spec.dropout)
    return Layers(layers | {"out": nn.Linear(features, classes)})


def _hidden_layers(spec: HeadSpec, i: int, features: int) -> dict[str, nn.Module]:
    layers: dict[str, nn.Module] = {f"hidden{i}": nn.Linear(features, spec.width)}
    if spec.norm != "none":
        norm: Any = NORMS[spec.norm]
        layers[f"norm{i}"] = norm(spec.width)
    layers[f"activation{i}"] = ACTIVATIONS[spec.activation]()
    if spec.dropout:
        layers[f"dropout{i}"] = nn.Dropout(spec.dropout)
    return layers
