"""Precondition of `shrink`: a network of images, without an adapter, that has a head."""

from effxfer.errors import SettingsError
from effxfer.net.net import Net
from effxfer.stages.prune.preconditions import check_prunable
from effxfer.stages.settings.base import StageSettings


def check_shrinkable(stage: str, net: Net, settings: StageSettings) -> None:
    """Refuse a network that `shrink` cannot make faster.

    Raises:
        SettingsError: If it takes no images, or has no head yet.
        ModelFileError: If it has an unmerged adapter.
    """
    if net.input.kind != "image":
        text = f"{stage} makes networks of images faster, this one takes {net.input.unit}"
        raise SettingsError(text, "use `effxfer prune --method channels --latency-ratio`")
    if not net.classes:
        text = f"{stage} starts from a network that is trained for the data, this one has no head"
        raise SettingsError(text, "run `effxfer finetune` first, and shrink its result")
    check_prunable(stage, net, settings)
