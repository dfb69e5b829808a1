"""MAE: hide most patches of an image and rebuild them from the others (He et al., 2021).

https://arxiv.org/abs/2111.06377. The body sees visible patches alone; the small decoder is discarded after training.

Shape legend: B images, n patches of which v are visible, p other tokens such as that of the class, D width of the body,
q numbers of a patch.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Generator, Tensor, nn

from effxfer.data.batches.augment import Augment
from effxfer.data.batches.batches import Batches, make_generator
from effxfer.data.batches.collate import input_tensor
from effxfer.data.task import Task
from effxfer.errors import SettingsError
from effxfer.net.hooks import hooks
from effxfer.net.net import Net
from effxfer.net.taps import capture_taps
from effxfer.train.devices import Device
from effxfer.train.evaluate import evaluation_batches, evaluation_mode
from effxfer.transfer.base import Strategy, unwrap
from effxfer.transfer.regularized.reference_model import ModelWrapper
from effxfer.transfer.self_supervised.views import make_view_maker, refuse_options_of_labels

PARTS = ("blocks", "norm", "norm_pre", "num_prefix_tokens", "patch_embed")  # of timm's vision transformers
SMALL = 1e-6  # added to a patch's variance, as in the authors' code


class MaskedAutoencoder(Strategy):
    """Rebuild hidden patches of images; for vision transformers of timm.

    Attributes:
        rate: Share of the patches that are hidden, above 0 and below 1; 0.75 in the paper.
        width: Units of the decoder; 512 in the paper.
        depth: Blocks of the decoder; 8 in the paper, where one block fine-tunes as well.
    """

    inputs: ClassVar[frozenset[str]] = frozenset({"image"})
    of_images: ClassVar[bool] = False
    judged_by: ClassVar[str] = "rebuilt variance"

    # The paper's: no colour, and crops from a fifth of the area on.
    augment: Augment = Augment(scale=0.2)
    rate: float = Field(default=0.75, gt=0, lt=1)
    width: int = Field(default=128, ge=4, multiple_of=4)
    depth: int = Field(default=2, ge=1)

    @model_validator(mode="after")
    def _uses_no_labels(self) -> "MaskedAutoencoder":
        refuse_options_of_labels(self)
        return self

    def prepare(self, net: Net, tasks: Sequence[Task]) -> nn.Module:
        """Add the decoder.

        Raises:
            SettingsError: If the body is no vision transformer of timm.
        """
        if missing := [part for part in PARTS if not hasattr(net.body, part)]:
            text = f"mae needs a vision transformer of timm, and the backbone has no {missing[0]}"
            raise SettingsError(text, "name one, such as timm:vit_tiny_patch16_224, or take another strategy")
        super().prepare(net, tasks)
        return Autoencoder(net, self.width, self.depth)

    def draw(self, learner: "Autoencoder", tasks: Sequence[Task], device: torch.device) -> Callable[[int], Batches]:
        """Return batches of images `(B, 3, S, S)` and a random order of the patches of each, int64 `(B, n)`."""
        count, look = make_view_maker(tasks, self.augment, device, 1)

        def make(index: Tensor, rng: Generator) -> tuple[Tensor, Tensor]:
            return look(index, rng), draw_orders(len(index), learner.patches, rng).to(device)

        return lambda seed: Batches(count, self.batch, make, seed)

    def loss(self, learner: "Autoencoder", batch: tuple[Tensor, Tensor], progress: float) -> Mapping[str, Tensor]:
        """Return the mean squared error at hidden patches, whose pixels have mean 0 and variance 1 in each."""
        images, orders = batch
        rebuilt = learner.rebuild(images, orders[:, : self.count_visible(learner)], orders)
        return {
            "rebuild": hidden_error(rebuilt, patches_of(images, learner.side), orders[:, self.count_visible(learner) :])
        }

    def judge(self, learner: "Autoencoder", tasks: Sequence[Task], device: Device) -> float:
        """Return the share of the variance of hidden patches of validation images that is rebuilt, in points."""
        val, net, errors = tasks[-1].val, unwrap(learner), list[float]()
        rng = make_generator("mae")  # the same patches in every epoch
        with evaluation_mode(learner):
            for rows in evaluation_batches(val.rows, 64):
                images = input_tensor(val.rows[rows], net.input, device.torch)
                orders = draw_orders(len(images), learner.patches, rng).to(device.torch)
                errors += [float(self.loss(learner, (images, orders), 0.0)["rebuild"])] * len(images)
        return 100 * (1 - sum(errors) / len(errors))

    def count_visible(self, learner: "Autoencoder") -> int:
        """Return the number of visible patches: at least one, and not all."""
        return min(max(1, round((1 - self.rate) * learner.patches)), learner.patches - 1)


class Autoencoder(ModelWrapper):
    """A vision transformer with a small decoder.

    Attributes:
        side: Of a patch in pixels.
        patches: Their number n.
    """

    def __init__(self, net: Net, width: int, depth: int) -> None:
        super().__init__(net)
        body: Any = net.body
        self.side: int = body.patch_embed.patch_size[0]
        self.patches: int = (net.input.size // self.side) ** 2
        self.embed = nn.Linear(body.num_features, width)
        self.hidden = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.places = nn.Parameter(0.02 * torch.randn(1, self.patches, width))
        self.decoder = nn.Sequential(*(_block(width) for _ in range(depth)), nn.LayerNorm(width))
        self.out = nn.Linear(width, 3 * self.side**2)

    def rebuild(self, images: Tensor, visible: Tensor, orders: Tensor) -> Tensor:
        """Return all patches `(B, n, q)` as they are guessed from the visible ones.

        Args:
            images: `(B, 3, S, S)`.
            visible: The visible patches, `(B, v)`: the first of `orders`.
            orders: A permutation of the patches of each image, `(B, n)`.
        """
        tokens = self.embed(encode(self.net.body, images, visible))
        # The class token is decoded, too: a head may read it, and it would learn nothing otherwise.
        prefix, shown = tokens.split([tokens.shape[1] - visible.shape[1], visible.shape[1]], 1)
        unseen = self.hidden.expand(len(images), self.patches - visible.shape[1], -1)
        ordered = take(torch.cat([shown, unseen.to(tokens.dtype)], 1), orders.argsort(1)) + self.places
        patches: Tensor = self.out(self.decoder(torch.cat([prefix, ordered], 1))[:, prefix.shape[1] :])
        return patches.float()


def encode(body: Any, images: Tensor, visible: Tensor) -> Tensor:
    """Run a vision transformer on the visible patches `(B, v)` alone; return its tokens `(B, p + v, D)`."""
    prefix: int = body.num_prefix_tokens

    def select(_module: nn.Module, _inputs: Any, tokens: Tensor) -> Tensor:
        return torch.cat([tokens[:, :prefix], take(tokens[:, prefix:], visible)], 1)

    # Where the embedded patches have their positions, and before the first block.
    with hooks([body.norm_pre.register_forward_hook(select)]), capture_taps(body, ("norm",)) as outputs:
        body(images)
    return outputs["norm"]


def take(tokens: Tensor, index: Tensor) -> Tensor:
    """Return the tokens `(B, m, D)` of `(B, n, D)` that `index` `(B, m)` names."""
    return tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[2]))


def draw_orders(count: int, patches: int, rng: Generator) -> Tensor:
    """Draw a permutation of the patches for each image, int64 `(count, patches)`."""
    return torch.rand(count, patches, generator=rng).argsort(1)


def patches_of(images: Tensor, side: int) -> Tensor:
    """Cut images `(B, 3, S, S)` into patches `(B, n, 3 * side^2)`, row by row."""
    size = images.shape[0], 3, images.shape[2] // side, side, images.shape[3] // side, side
    return images.reshape(size).permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def hidden_error(rebuilt: Tensor, patches: Tensor, hidden: Tensor) -> Tensor:
    """Return the mean squared error at hidden patches, each of which is brought to mean 0 and variance 1.

    Args:
        rebuilt: `(B, n, q)`.
        patches: `(B, n, q)`, as they are.
        hidden: The hidden ones, int64 `(B, m)`.
    """
    targets = take(patches, hidden)
    targets = (targets - targets.mean(2, keepdim=True)) / (targets.var(2, keepdim=True) + SMALL).sqrt()
    return (take(rebuilt, hidden) - targets).square().mean()


def _block(width: int) -> nn.Module:
    return nn.TransformerEncoderLayer(
        width, 4, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
