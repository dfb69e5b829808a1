"""Report of a compaction."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

from torch import Tensor, nn

from effxfer.prune.graph.groups import Units
from effxfer.prune.graph.macs import cost
from effxfer.prune.network import masks_of
from effxfer.report import Measurement, Report, Table

SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Size:
    """Size of a network.

    Attributes:
        macs: Multiply-adds for one image.
        parameters: All of them.
        masked: Weights that a ticket removed, and that are still there as zeros.
        prunable: All weights that have masks.
    """

    macs: int
    parameters: int
    masked: int
    prunable: int


def size_of(net: nn.Module, example: Tensor) -> Size:
    """Measure a network for one input `(1, 3, S, S)`."""
    macs, parameters = cost(deepcopy(net).eval(), example)
    masks = masks_of(net).values()
    return Size(
        macs=macs,
        parameters=parameters,
        masked=sum(int((~keep).sum()) for keep in masks),
        prunable=sum(keep.numel() for keep in masks),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Compaction:
    """Results of one compaction.

    Attributes:
        before: Size of the masked network.
        after: Size of the smaller one.
        widths: Output channels by layer, before and after.
        units: Units that may be removed.
        removed: Removed units `(U,)`, by layer.
        dead_kept: Number of dead units that stay, by layer and reason.
        refused: Reasons why no unit of a layer is removed, by layer.
        difference: Largest difference between outputs before and after.
        images: Number of inputs of the measurement.
        max_error: Allowed error; 0 is none.
        error: Largest change of a logit as a share of the largest logit.
    """

    before: Size
    after: Size
    widths: tuple[Mapping[str, int], Mapping[str, int]]
    units: Sequence[Units]
    removed: Mapping[str, Tensor]
    dead_kept: Mapping[tuple[str, str], int]
    refused: Mapping[str, str]
    difference: float
    images: int
    max_error: float
    error: float

    def report(self) -> Report:
        """Make the report: sizes, zeros, difference, and the units that could not be removed."""
        tables = [Table(title="Channels per layer", rows=tuple(self._layers()))]
        stay = [{"layer": n, "units": str(count), "why": reason} for (n, reason), count in self.dead_kept.items()]
        stay += [{"layer": n, "units": "all", "why": reason} for n, reason in self.refused.items()]
        if stay:
            tables.append(Table(title="What could not leave", rows=tuple(stay)))
        return Report(rows=(*self._sizes(), *self._zeros(), *self._change()), tables=tuple(tables), notes=self._notes())

    def _layers(self) -> list[dict[str, object]]:
        before, after = self.widths
        rows: list[dict[str, object]] = [{"layer": n, "before": before[n], "after": w} for n, w in after.items()]
        for group in self.units:
            if group.heads:
                remaining = group.count - self._removed_count(group)
                rows.append({"layer": f"{group.layer}, heads", "before": group.count, "after": remaining})
        return rows

    def _sizes(self) -> list[Measurement]:
        rows = []
        for name, of in (("macs", "multiply-adds before"), ("parameters", "parameters before")):
            before, after = getattr(self.before, name), getattr(self.after, name)
            rows += [
                Measurement(name=f"{name}/before", value=before / 1e6, unit="M"),
                Measurement(name=f"{name}/after", value=after / 1e6, unit="M"),
                Measurement(name=f"{name}/ratio", value=after / before, unit="x", of=of),
            ]
        return rows

    def _zeros(self) -> list[Measurement]:
        before, after = self.before, self.after
        if not before.masked:
            return []
        real = 100 * (before.masked - after.masked) / before.masked
        zeros = 100 * after.masked / max(after.prunable, 1)
        return [
            Measurement(name="sparsity/real", value=real, unit="%", n=before.masked, of="masked weights"),
            Measurement(name="sparsity/survivors", value=zeros, unit="%", n=after.prunable, of="weights with masks"),
            Measurement(name="zeros/before", value=before.masked),
            Measurement(name="zeros/after", value=after.masked),
        ]

    def _change(self) -> list[Measurement]:
        rows = [Measurement(name="difference", value=self.difference, n=self.images)]
        if self.max_error:
            rows.append(Measurement(name="error", value=100 * self.error, unit="%", of="the largest logit"))
        return rows

    def _removed_count(self, units: Units) -> int:
        return int(self.removed[units.layer].sum()) if units.layer in self.removed else 0

    def _notes(self) -> tuple[str, ...]:
        heads = sum(self._removed_count(group) for group in self.units if group.heads)
        channels = sum(self._removed_count(group) * group.copies for group in self.units if not group.heads)
        notes = [f"{channels} channels and {heads} attention heads left the network"]
        if not channels + heads:
            notes = ["no channel or head could leave: the network stays as it was, and so do its zeros"]
        stay = [f"{n}: {count} dead stay, because {reason}" for (n, reason), count in self.dead_kept.items()]
        stay += [f"{n} was not compacted: {reason}" for n, reason in self.refused.items()]
        overflow = [f"{len(stay) - SHOWN} more reasons are in the table"] if len(stay) > SHOWN else []
        return (*notes, *stay[:SHOWN], *overflow)
