"""Build the head of several tasks, of any kind."""

from collections.abc import Sequence

from effxfer.errors import ModelFileError
from effxfer.net.heads.build import build_head
from effxfer.net.heads.mmoe import build_mmoe
from effxfer.net.heads.mtan import build_mtan
from effxfer.net.heads.multi_head import MultiHead, SplitHead, build_multi_head
from effxfer.net.heads.per_task import build_per_task_head
from effxfer.net.heads.spec import OF_TASKS, HeadSpec


def build_task_heads(
    spec: HeadSpec, features: int | Sequence[int], widths: Sequence[int], of_words: Sequence[bool] = ()
) -> MultiHead:
    """Build an untrained head for several tasks.

    Args:
        spec: Specification of the head, or of each task's.
        features: Channels of each layer that feeds it, or their sum.
        widths: Columns of each task.
        of_words: Whether each task answers for each token of a text; empty if none does.

    Raises:
        ModelFileError: If heads of this kind serve a single task only, or the layers or tags of words do not suit it.
    """
    if spec.kind in OF_TASKS and any(of_words):
        text = f"a head of kind {spec.kind} reads one vector for each text, and a task tags its words"
        raise ModelFileError(text, "leave out options.sharing")
    channels = [features] if isinstance(features, int) else list(features)
    if spec.kind == "mmoe":
        return build_mmoe(spec.experts, spec.expert_width, sum(channels), widths)
    if spec.kind == "per_task":
        return build_per_task_head(spec.heads, channels, widths)
    if spec.kind == "mtan":
        if len(channels) < 4 or len(channels) % 2:
            text = f"an edit feeds attention over stages by {len(channels)} layers, not by two of each stage"
            raise ModelFileError(text, "get an intact copy", code="E404")
        return build_mtan(channels, widths)
    if spec.kind == "split":
        if sum(channels) % len(widths):
            text = f"an edit divides {sum(channels)} features among {len(widths)} tasks"
            raise ModelFileError(text, "get an intact copy", code="E404")
        return SplitHead([build_head(HeadSpec(), sum(channels) // len(widths), width) for width in widths])
    return build_multi_head(spec, features, widths, of_words)
