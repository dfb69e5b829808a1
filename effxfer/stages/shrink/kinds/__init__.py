"""Kinds of candidates: `KINDS` maps the settings' names to the functions that build them."""

from collections.abc import Mapping

from effxfer.stages.shrink.kinds.channels_to_latency import by_magnitude, by_taylor
from effxfer.stages.shrink.kinds.earlier_exit import earlier_exit
from effxfer.stages.shrink.kinds.images_and_channels import images_and_channels
from effxfer.stages.shrink.kinds.kind import Build
from effxfer.stages.shrink.kinds.larger_images import larger_images
from effxfer.stages.shrink.kinds.low_rank import low_rank_layers
from effxfer.stages.shrink.kinds.smaller_images import smaller_images
from effxfer.stages.shrink.kinds.uniform_channels import uniform_channels
from effxfer.stages.shrink.kinds.whole_blocks import whole_blocks

KINDS: Mapping[str, Build] = {
    "blocks": whole_blocks,
    "channels": by_magnitude,
    "exit": earlier_exit,
    "images": smaller_images,
    "images and channels": images_and_channels,
    "larger images": larger_images,
    "low rank": low_rank_layers,
    "taylor channels": by_taylor,
    "uniform channels": uniform_channels,
}
# They rank by the loss of the network, which says nothing with a head that is not trained.
NEED_TRAINED_HEAD = frozenset({"blocks", "channels", "taylor channels"})
