"""What pruning returns, whichever method removed the channels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from effxfer.net.net import Edit
from effxfer.report import Report


@dataclass(frozen=True, kw_only=True, eq=False)
class PruneResult:
    """What pruning did to a network, which was changed in place.

    Attributes:
        report: Multiply-adds and parameters before and after, and tables of the layers.
        kept_outputs: Of each convolution or linear layer that lost outputs, the positions of those that it kept; none
            where the outputs of attention were scaled anew, because they are not what they were.
        kept_reasons: Reasons why layers lost no outputs, by layer.
        record: The new sizes as plain values: `apply_sizes(module, record)` gives them to another instance of the
            class, which then loads the `state_dict`.
    """

    report: Report
    kept_outputs: Mapping[str, Sequence[int]]
    kept_reasons: Mapping[str, str]
    record: Sequence[Edit]
