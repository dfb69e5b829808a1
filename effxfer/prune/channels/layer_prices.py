"""Latency of single layers at any width, for the latency search."""

from typing import Protocol

from effxfer.net.layers import Site

OVERHEAD_MS = 1e-3  # of any layer, so that one of few channels is not free
MS_PER_MAC = 1e-8  # 100 billion multiply-adds a second: the scale does not matter, what is measured corrects it


class LayerPrices(Protocol):
    """Latency of layers at any width: measured in ONNX Runtime (`measure_costs`) or modelled (`MultiplyAdds`)."""

    @property
    def step(self) -> int:
        """Widths at multiples of this are on the runtime's fast path; 1 if all are alike."""

    def ms(self, site: Site, inputs: int, outputs: int) -> float:
        """Return the milliseconds of a layer with these input and output channels; 0 without any."""


class MultiplyAdds:
    """Prices by multiply-adds alone: for devices whose layers cannot be timed here, and for tests.

    Args:
        step: Widths at multiples of this are tried, at least 1; 8 channels fill a vector register of most CPUs.
    """

    def __init__(self, step: int = 8) -> None:
        self.step = step

    def ms(self, site: Site, inputs: int, outputs: int) -> float:
        """Return a price in milliseconds of no particular device."""
        if not inputs or not outputs:
            return 0.0
        reads = 1.0 if site.kind == "depthwise" else inputs / site.groups
        positions = site.out[0] * site.out[1] * site.kernel[0] * site.kernel[1]
        return OVERHEAD_MS + MS_PER_MAC * positions * reads * outputs
