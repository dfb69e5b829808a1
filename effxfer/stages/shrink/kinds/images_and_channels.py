"""Candidate: smaller images for half of the way, on a logarithmic scale, and fewer channels for the rest."""

from dataclasses import replace
from math import sqrt

from effxfer.net.net import Net
from effxfer.stages.shrink.kinds.kind import Refusal, Sized, Workbench
from effxfer.stages.shrink.kinds.smaller_images import smaller_images
from effxfer.stages.shrink.kinds.uniform_channels import uniform_channels


def images_and_channels(net: Net, bench: Workbench) -> Sized | Refusal:
    """Lower the side of the images to the geometric mean of both latencies, then remove channels uniformly."""
    halfway = smaller_images(net, replace(bench, limit=sqrt(bench.limit * bench.present.ratio)))
    if isinstance(halfway, Refusal):
        return halfway
    narrower = uniform_channels(halfway.net, replace(bench, present=halfway.timing))
    if isinstance(narrower, Refusal):
        return narrower
    return replace(narrower, detail=f"{halfway.detail}, {narrower.detail}")
