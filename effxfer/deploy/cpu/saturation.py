"""Count the sums of an int8 file that saturate on x86 without VNNI, by emulating its arithmetic on real images.

`vpmaddubsw` multiplies unsigned activations with signed weights and adds two neighbouring products in 16 bits; a sum
outside [-32768, 32767] is clipped. ONNX Runtime (MLAS) then adds the pairs in 32 bits. The emulation equals ONNX
Runtime 1.32 on a CPU with AVX2 bit for bit (the tests compare both on such a CPU). It assumes:

* Matrix products pair neighbouring rows of the weights: k = 0 with 1, 2 with 3; an odd last row has none.
* A convolution is such a product per group, over kernel rows, kernel columns, and channels as the fastest axis. Padding
  is the zero point.
* Depthwise convolutions (one channel in, one out per group) have kernels that do not pair.
* Codes are multiplied unshifted; zero points are subtracted afterwards, from 32-bit sums.
* Unsigned weights, signed activations and `ConvInteger` have kernels that cannot saturate.

Other kernels may pair other products. `Layer.any_order` bounds that case: it counts outputs that saturate under some
pairing of their weights and for some input. It is 0 for weights of 7 bits, since 255 * (64 + 64) < 32768.

Axes: M rows of a product (pixels of all images), K products per output, O outputs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effxfer.deploy.cpu.integer_ops import Product, integer_products, open_optimized
from effxfer.deploy.int8.static import Feeds
from effxfer.errors import ModelFileError
from effxfer.report import Measurement, Report, Table

# int16, in which `vpmaddubsw` adds two products, and the largest uint8.
LOW, HIGH, TOP_CODE = -32768, 32767, 255


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Saturation of one layer by `vpmaddubsw`.

    Attributes:
        name: Name of the node.
        op: Operator of the layer.
        pairs: Sums of two products, over all images; 0 where the weights rule saturation out.
        saturated: Number of clipped sums.
        outputs: Sums of all products of an output.
        hit: Number of outputs with a clipped pair.
        could: Pairs of weights that some input saturates, in ONNX Runtime's order.
        any_order: Output channels that some input saturates under some order.
    """

    name: str
    op: str
    pairs: int = 0
    saturated: int = 0
    outputs: int = 0
    hit: int = 0
    could: int = 0
    any_order: int = 0

    def row(self) -> dict[str, Any]:
        """Return the row of the report's table."""
        share = 100 * self.saturated / self.pairs if self.pairs else 0.0
        hit = 100 * self.hit / self.outputs if self.outputs else 0.0
        counts = {"pair sums": self.pairs, "saturate": self.saturated, "of the sums %": share, "outputs hit %": hit}
        return {"layer": self.name, **counts, "weight pairs that could": self.could, "channels": self.any_order}


@dataclass(frozen=True, kw_only=True)
class Saturation:
    """Saturation of a file by `vpmaddubsw`.

    Attributes:
        layers: Layers of unsigned codes and signed weights except depthwise ones, in the graph's order.
        images: Number of images that the file was run on; 0 where the weights rule saturation out for any input.
    """

    layers: tuple[Layer, ...]
    images: int

    @property
    def pairs(self) -> int:
        """Sums of two products, in layers whose weights allow saturation."""
        return sum(layer.pairs for layer in self.layers)

    @property
    def saturated(self) -> int:
        """How many of them were clipped."""
        return sum(layer.saturated for layer in self.layers)

    @property
    def saturating_layers(self) -> tuple[Layer, ...]:
        """Layers in which a sum was clipped."""
        return tuple(layer for layer in self.layers if layer.saturated)

    @property
    def exposed_layers(self) -> tuple[Layer, ...]:
        """Layers that some input saturates under some order of the products."""
        return tuple(layer for layer in self.layers if layer.any_order)

    def __str__(self) -> str:
        """Summarize the counts in one line.

        >>> print(Saturation(layers=(Layer(name="conv", op="QGemm"),), images=0))
        no input saturates any of 1 layers
        """
        if not self.exposed_layers:
            return f"no input saturates any of {len(self.layers)} layers"
        share = 100 * self.saturated / max(self.pairs, 1)
        layers = f" in {len(self.saturating_layers)} of {len(self.layers)} layers" if self.saturated else ""
        return (
            f"{self.saturated:,} of {self.pairs:,} pair sums saturate ({share:.2g} %){layers} on {self.images} images"
        )

    def report(self, name: str) -> Report:
        """Return the share of clipped sums, and a table of the layers that contain them."""
        share = 100 * self.saturated / max(self.pairs, 1)
        row = Measurement(name=f"saturation/{name}", value=share, unit="%", n=max(self.pairs, 1), of="pair sums")
        layers = self.saturating_layers
        table = Table(title=f"Saturation of {name}", rows=tuple(layer.row() for layer in layers))
        return Report(rows=(row,), tables=(table,) if layers else (), notes=(f"x86 without VNNI: {self}",))


def saturation(file: Path, feeds: Feeds, *, enough: int | None = None) -> Saturation:
    """Count the sums of two products that x86 without VNNI clips.

    The codes come from exact sums (on an x86 CPU without VNNI: as far as ONNX Runtime has such kernels), so a
    saturating layer neither hides nor causes another. Nothing is run where the weights rule saturation out.

    Args:
        file: An int8 file whose input is that of `feeds`.
        feeds: Images like those in use: the calibration images.
        enough: Stop after this many images if a sum saturated by then; None counts on all images.

    Raises:
        ModelFileError: If ONNX Runtime refuses the file.
    """
    model, integer_ops = integer_products(file)
    products = [product for product in integer_ops if not product.is_depthwise]
    layers = {product.name: bound_saturation(product) for product in products}
    suspects = [product for product in products if layers[product.name].could]
    if not suspects or not len(feeds.rows):
        return Saturation(layers=tuple(layers.values()), images=0)
    run, images = _code_reader(model, suspects), 0
    while images < len(feeds.rows):
        # One saturated sum is enough to refuse a file; without one, all images have to show none.
        if images == enough and any(layer.saturated for layer in layers.values()):
            break
        # One image at a time: the codes of all layers are held at once.
        values = run(feeds.feed(images, 1))
        for product in suspects:
            layers[product.name] = _add_counts(layers[product.name], product, values)
        images += 1
    return Saturation(layers=tuple(layers.values()), images=images)


def pair_sums(rows: NDArray[np.uint8], weights: NDArray[np.int8]) -> tuple[int, NDArray[np.bool_]]:
    """Count the sums of two neighbouring products that do not fit 16 bits.

    Args:
        rows: Codes, uint8 `(M, K)`.
        weights: int8 `(K, O)`.

    Returns:
        How many of the M * ceil(K / 2) * O sums are clipped; and bool `(M, O)`: the outputs with such a sum.
    """
    rows, weights = _pad_to_even(rows.T).T, _pad_to_even(weights)
    first, second = weights[0::2].astype(np.int32), weights[1::2].astype(np.int32)
    # By the codes that occur, not by 255: most pairs are ruled out without looking at them.
    top = rows.max(axis=0, initial=0).astype(np.int32)
    risky = _exceeds_int16(first, second, top[0::2, None], top[1::2, None])
    hit = np.zeros((len(rows), weights.shape[1]), dtype=np.bool_)
    count = 0
    for k in np.flatnonzero(risky.any(axis=1)):
        outputs = np.flatnonzero(risky[k])
        codes = rows[:, 2 * k : 2 * k + 2].astype(np.int32)
        sums = codes[:, :1] * first[k, outputs] + codes[:, 1:] * second[k, outputs]
        cut = (sums < LOW) | (sums > HIGH)
        count += int(cut.sum())
        hit[:, outputs] |= cut
    return count, hit


def bound_saturation(product: Product) -> Layer:
    """Count the pairs of weights that some input saturates, in ONNX Runtime's order and in any order."""
    could = any_order = 0
    for weights in product.matrices():
        even = _pad_to_even(weights).astype(np.int32)
        could += int(_exceeds_int16(even[0::2], even[1::2], TOP_CODE, TOP_CODE).sum())
        # Any order: the worst pairs are the two largest and the two smallest weights of an output.
        ranked = np.sort(even, axis=0)
        high, low = (_exceeds_int16(ranked[a], ranked[b], TOP_CODE, TOP_CODE) for a, b in ((-1, -2), (0, 1)))
        any_order += int((high | low).sum())
    return Layer(name=product.name, op=product.op, could=could, any_order=any_order)


def _exceeds_int16(first: NDArray[np.int32], second: NDArray[np.int32], top: Any, next_top: Any) -> NDArray[np.bool_]:
    """Mark pairs whose sum leaves int16 for codes from 0 to `top` and `next_top`."""
    high = top * first.clip(min=0) + next_top * second.clip(min=0)
    low = top * first.clip(max=0) + next_top * second.clip(max=0)
    reached: NDArray[np.bool_] = (high > HIGH) | (low < LOW)
    return reached


def _pad_to_even(matrix: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([matrix, np.zeros_like(matrix[:1])]) if len(matrix) % 2 else matrix


def _add_counts(layer: Layer, product: Product, values: dict[str, NDArray[Any]]) -> Layer:
    zero = product.zero if isinstance(product.zero, int) else int(values[product.zero].reshape(-1)[0])
    for rows, weights in zip(product.rows(values[product.codes], zero), product.matrices(), strict=True):
        saturated, hit = pair_sums(rows, weights)
        outputs = rows.shape[0] * weights.shape[1]
        layer = replace(
            layer, pairs=layer.pairs + outputs * ((rows.shape[1] + 1) // 2), saturated=layer.saturated + saturated,
            outputs=layer.outputs + outputs, hit=layer.hit + int(hit.sum()),
        )  # fmt: skip
    return layer


def _code_reader(model: Any, products: Sequence[Product]) -> Any:
    """Return a function that runs a graph and returns the codes and zero points of products by name."""
    import onnx

    names = {product.codes for product in products}
    names |= {product.zero for product in products if isinstance(product.zero, str)}
    fetched = sorted(names - {value.name for value in model.graph.input})
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in fetched)
    content = model.SerializeToString()
    try:
        runner = open_optimized(content, exact=True)
    except ModelFileError:  # the exact kernels do not exist beside signed activations
        runner = open_optimized(content)

    def run(feed: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return {**feed, **dict(zip(fetched, runner.run(fetched, feed), strict=True))}

    return run
