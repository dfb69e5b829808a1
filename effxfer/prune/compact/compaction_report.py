"""What a compaction came to, as a report."""

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
    """How large a network is.

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
    """Everything that the report is made from.

    Attributes:
        before: Size of the masked network.
        after: Size of the smaller one.
        widths: Output channels by layer, before and after.
        units: What could have left.
        gone: What left: by layer, units `(U,)`.
        why: By layer and reason, how many dead units stay.
        refused: By layer, why its units are not touched at all.
        difference: Largest difference between outputs before and after.
        images: On how many inputs that was measured.
        max_error: What was allowed; 0 is none.
        error: Largest change of a logit as a share of the largest logit.
    """

    before: Size
    after: Size
    widths: tuple[Mapping[str, int], Mapping[str, int]]
    units: Sequence[Units]
    gone: Mapping[str, Tensor]
    why: Mapping[tuple[str, str], int]
    refused: Mapping[str, str]
    difference: float
    images: int
    max_error: float
    error: float

    def report(self) -> Report:
        """Say what became smaller, by how much, and what could not."""
        tables = [Table(title="Channels per layer", rows=tuple(self._layers()))]
        stay = [{"layer": n, "units": str(count), "why": why} for (n, why), count in self.why.items()]
        stay += [{"layer": n, "units": "all", "why": why} for n, why in self.refused.items()]
        if stay:
            tables.append(Table(title="What could not leave", rows=tuple(stay)))
        return Report(rows=(*self._sizes(), *self._zeros(), *self._change()), tables=tuple(tables), notes=self._notes())

    def _layers(self) -> list[dict[str, object]]:
        before, after = self.widths
        rows: list[dict[str, object]] = [{"layer": n, "before": before[n], "after": w} for n, w in after.items()]
        for one in self.units:
            if one.heads:
                left = one.count - self._left(one)
                rows.append({"layer": f"{one.layer}, heads", "before": one.count, "after": left})
        return rows

    def _sizes(self) -> list[Measurement]:
        found = []
        for name, of in (("macs", "multiply-adds before"), ("parameters", "parameters before")):
            before, after = getattr(self.before, name), getattr(self.after, name)
            found += [
                Measurement(name=f"{name}/before", value=before / 1e6, unit="M"),
                Measurement(name=f"{name}/after", value=after / 1e6, unit="M"),
                Measurement(name=f"{name}/ratio", value=after / before, unit="x", of=of),
            ]
        return found

    def _zeros(self) -> list[Measurement]:
        before, after = self.before, self.after
        if not before.masked:
            return []
        real = 100 * (before.masked - after.masked) / before.masked
        left = 100 * after.masked / max(after.prunable, 1)
        return [
            Measurement(name="sparsity/real", value=real, unit="%", n=before.masked, of="masked weights"),
            Measurement(name="sparsity/survivors", value=left, unit="%", n=after.prunable, of="weights with masks"),
            Measurement(name="zeros/before", value=before.masked),
            Measurement(name="zeros/after", value=after.masked),
        ]

    def _change(self) -> list[Measurement]:
        rows = [Measurement(name="difference", value=self.difference, n=self.images)]
        if self.max_error:
            rows.append(Measurement(name="error", value=100 * self.error, unit="%", of="the largest logit"))
        return rows

    def _left(self, one: Units) -> int:
        return int(self.gone[one.layer].sum()) if one.layer in self.gone else 0

    def _notes(self) -> tuple[str, ...]:
        heads = sum(self._left(one) for one in self.units if one.heads)
        channels = sum(self._left(one) * one.copies for one in self.units if not one.heads)
        notes = [f"{channels} channels and {heads} attention heads left the network"]
        if not channels + heads:
            notes = ["no channel or head could leave: the network stays as it was, and so do its zeros"]
        stay = [f"{n}: {count} dead stay, because {why}" for (n, why), count in self.why.items()]
        stay += [f"{n} is left alone: {why}" for n, why in self.refused.items()]
        more = [f"{len(stay) - SHOWN} more reasons are in the table"] if len(stay) > SHOWN else []
        return (*notes, *stay[:SHOWN], *more)
