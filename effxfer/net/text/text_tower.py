"""The text tower of a network of images: the encoder whose embeddings its classes are."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from effxfer.net.net import Net

FOLDER = "text"  # of a model directory


class TextTower:
    """A network of texts that shares its space of embeddings with a network of images; opened when it is asked for.

    It is no part of the network's weights: stages change the network alone, and a result takes the tower along.

    Args:
        load: Opens the network.
        prompts: Texts with `{}` where the name of a class goes, of which its class embeddings are the mean.
    """

    def __init__(self, load: "Callable[[], Net]", prompts: Sequence[str]) -> None:
        self._load = load
        self.prompts = tuple(prompts)

    @cached_property
    def net(self) -> "Net":
        """The network, with a cosine head."""
        return self._load()

    def __deepcopy__(self, memo: Any) -> "TextTower":
        """Return itself: no stage changes the tower of another network."""
        return self
