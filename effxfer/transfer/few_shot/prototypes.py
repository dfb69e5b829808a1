"""Prototypical networks: learn features in which a class is one point (Snell et al., 2017).

https://arxiv.org/abs/1703.05175.

The loss is that of `Episodic`.
"""

from collections.abc import Mapping
from typing import Any

from effxfer.net.heads.spec import Metric
from effxfer.transfer.few_shot.episodic import Episodic


class PrototypeNet(Episodic):
    """Train the whole body on episodes: classify query images by the mean features of a few support images.

    The head then holds one prototype per class, the mean of the training images' features. An exported file takes
    prototypes of new classes as an input. Accuracy on new classes is measured on `data.target`.

    Attributes:
        distance: `euclidean` or `cosine`.
    """

    distance: Metric = "euclidean"

    def head(self) -> Mapping[str, Any]:
        """Return the `HeadSpec` of a head of prototypes."""
        return {"kind": "prototypes", "distance": self.distance}
