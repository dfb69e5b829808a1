"""How many sums of an int8 file saturate on x86 without VNNI: that arithmetic, emulated on real images, layer by layer.

`vpmaddubsw` multiplies unsigned activations with signed weights and adds two neighbouring products in 16 bits; what is
outside [-32768, 32767] is cut off. ONNX Runtime (MLAS) then adds such pairs in 32 bits. What is assumed, and holds bit
for bit against ONNX Runtime 1.32 on a CPU with AVX2 (the tests compare both wherever they run on such a CPU):

* Matrix products pair neighbouring rows of the weights: k = 0 with 1, 2 with 3; an odd last row has none.
* A convolution is such a product per group, over kernel rows, kernel columns, and channels as the fastest axis. Outside
  the image stands the zero point.
* Depthwise convolutions (one channel in, one out per group) have kernels that do not pair.
* Codes are multiplied as they are; zero points are subtracted afterwards, from 32-bit sums.
* Unsigned weights, signed activations and `ConvInteger` have kernels that lose nothing.

Other kernels may pair other products. `Layer.any_order` is the bound for that: it counts outputs that would saturate
under some pairing of their weights and for some input. It is 0 for weights of 7 bits, since 255 * (64 + 64) < 32768.

Axes: M rows of a product (pixels of all images), K products per output, O outputs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effxfer.deploy.cpu.integer_ops import Product, integer_products, session
from effxfer.deploy.int8.static import Feeds
from effxfer.errors import ModelFileError
from effxfer.report import Measurement, Report, Table

LOW, HIGH, TOP_CODE = -32768, 32767, 255


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What `vpmaddubsw` does to one layer.

    Attributes:
        name: Of the node.
        op: Its operator.
        pairs: Sums of two products that were made for the images; 0 where the weights rule saturation out.
        saturated: How many of them were cut off.
        outputs: Sums of all products that were made.
        hit: How many of those hold a pair that was cut off.
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
        """Give a row of the report's table."""
        share = 100 * self.saturated / self.pairs if self.pairs else 0.0
        hit = 100 * self.hit / self.outputs if self.outputs else 0.0
        counts = {"pair sums": self.pairs, "saturate": self.saturated, "of the sums %": share, "outputs hit %": hit}
        return {"layer": self.name, **counts, "weight pairs that could": self.could, "channels": self.any_order}


@dataclass(frozen=True, kw_only=True)
class Saturation:
    """What `vpmaddubsw` does to a file.

    Attributes:
        layers: Those with unsigned codes and signed weights, depthwise ones left out, in the graph's order.
        images: The file was run on; 0 where no weight could saturate whatever comes in.
    """

    layers: tuple[Layer, ...]
    images: int

    @property
    def pairs(self) -> int:
        """Sums of two products that were made, in layers whose weights let them saturate."""
        return sum(layer.pairs for layer in self.layers)

    @property
    def saturated(self) -> int:
        """How many of them were cut off."""
        return sum(layer.saturated for layer in self.layers)

    @property
    def saturating(self) -> tuple[Layer, ...]:
        """Layers in which a sum was cut off."""
        return tuple(layer for layer in self.layers if layer.saturated)

    @property
    def exposed(self) -> tuple[Layer, ...]:
        """Layers that some input would saturate under some order of the products."""
        return tuple(layer for layer in self.layers if layer.any_order)

    def __str__(self) -> str:
        """Say it in a line.

        >>> print(Saturation(layers=(Layer(name="conv", op="QGemm"),), images=0))
        no input saturates any of 1 layers
        """
        if not self.exposed:
            return f"no input saturates any of {len(self.layers)} layers"
        share = 100 * self.saturated / max(self.pairs, 1)
        where = f" in {len(self.saturating)} of {len(self.layers)} layers" if self.saturated else ""
        return f"{self.saturated:,} of {self.pairs:,} pair sums saturate ({share:.2g} %){where} on {self.images} images"

    def report(self, name: str) -> Report:
        """Give the share of sums that were cut off, and a table of the layers in which that happened."""
        share = 100 * self.saturated / max(self.pairs, 1)
        row = Measurement(name=f"saturation/{name}", value=share, unit="%", n=max(self.pairs, 1), of="pair sums")
        table = Table(title=f"Saturation of {name}", rows=tuple(layer.row() for layer in self.saturating))
        return Report(rows=(row,), tables=(table,) if self.saturating else (), notes=(f"x86 without VNNI: {self}",))


def saturation(file: Path, feeds: Feeds, *, enough: int | None = None) -> Saturation:
    """Count the sums of two products that x86 without VNNI would cut off.

    The codes are those that exact sums give (on an x86 CPU without VNNI: as far as ONNX Runtime has such kernels), so
    one saturating layer does not hide or make another. Where the weights rule saturation out, nothing is run.

    Args:
        file: An int8 file that takes what `feeds` gives.
        feeds: Images, of all kinds that the file will meet: those it was calibrated on.
        enough: Stop after so many images if a sum saturated by then; None counts on all of them.

    Raises:
        ModelFileError: If ONNX Runtime refuses the file.
    """
    model, found = integer_products(file)
    products = [product for product in found if not product.depthwise]
    layers = {product.name: bound(product) for product in products}
    open_ones = [product for product in products if layers[product.name].could]
    if not open_ones or not len(feeds.pixels):
        return Saturation(layers=tuple(layers.values()), images=0)
    run, done = _watched(model, open_ones), 0
    while done < len(feeds.pixels):
        if done == enough and any(layer.saturated for layer in layers.values()):
            break
        values = run(feeds.feed(done, 1))
        for product in open_ones:
            layers[product.name] = _added(layers[product.name], product, values)
        done += 1
    return Saturation(layers=tuple(layers.values()), images=done)


def pair_sums(rows: NDArray[np.uint8], weights: NDArray[np.int8]) -> tuple[int, NDArray[np.bool_]]:
    """Count the sums of two neighbouring products that do not fit 16 bits.

    Args:
        rows: Codes, uint8 `(M, K)`.
        weights: int8 `(K, O)`.

    Returns:
        How many of the M * ceil(K / 2) * O sums are cut off; and bool `(M, O)`: the outputs that hold such a sum.
    """
    rows, weights = _even(rows.T).T, _even(weights)
    first, second = weights[0::2].astype(np.int32), weights[1::2].astype(np.int32)
    top = rows.max(axis=0, initial=0).astype(np.int32)
    risky = _reach(first, second, top[0::2, None], top[1::2, None])
    hit = np.zeros((len(rows), weights.shape[1]), dtype=np.bool_)
    count = 0
    for k in np.flatnonzero(risky.any(axis=1)):
        which = np.flatnonzero(risky[k])
        codes = rows[:, 2 * k : 2 * k + 2].astype(np.int32)
        sums = codes[:, :1] * first[k, which] + codes[:, 1:] * second[k, which]
        cut = (sums < LOW) | (sums > HIGH)
        count += int(cut.sum())
        hit[:, which] |= cut
    return count, hit


def saturated_product(rows: NDArray[np.uint8], weights: NDArray[np.int8]) -> NDArray[np.int64]:
    """Multiply codes `(M, K)` with weights `(K, O)` as `vpmaddubsw` does; give `(M, O)`."""
    rows, weights = _even(rows.T).T.astype(np.int32), _even(weights).astype(np.int32)
    total = np.zeros((len(rows), weights.shape[1]), dtype=np.int64)
    for k in range(0, len(weights), 2):
        total += np.clip(rows[:, k : k + 2] @ weights[k : k + 2], LOW, HIGH)
    return total


def bound(product: Product) -> Layer:
    """Say what the weights alone tell: which pairs could saturate, in ONNX Runtime's order and in any."""
    could = any_order = 0
    for weights in product.matrices():
        even = _even(weights).astype(np.int32)
        could += int(_reach(even[0::2], even[1::2], TOP_CODE, TOP_CODE).sum())
        ranked = np.sort(even, axis=0)
        high, low = (_reach(ranked[a], ranked[b], TOP_CODE, TOP_CODE) for a, b in ((-1, -2), (0, 1)))
        any_order += int((high | low).sum())
    return Layer(name=product.name, op=product.op, could=could, any_order=any_order)


def _reach(first: NDArray[np.int32], second: NDArray[np.int32], one: Any, two: Any) -> NDArray[np.bool_]:
    """Tell where codes from 0 to `one` and `two` can bring the sum of both products out of 16 bits."""
    high = one * first.clip(min=0) + two * second.clip(min=0)
    low = one * first.clip(max=0) + two * second.clip(max=0)
    reached: NDArray[np.bool_] = (high > HIGH) | (low < LOW)
    return reached


def _even(matrix: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([matrix, np.zeros_like(matrix[:1])]) if len(matrix) % 2 else matrix


def _added(layer: Layer, product: Product, values: dict[str, NDArray[Any]]) -> Layer:
    zero = product.zero if isinstance(product.zero, int) else int(values[product.zero].reshape(-1)[0])
    for rows, weights in zip(product.rows(values[product.codes], zero), product.matrices(), strict=True):
        saturated, hit = pair_sums(rows, weights)
        made = rows.shape[0] * weights.shape[1]
        layer = replace(
            layer, pairs=layer.pairs + made * ((rows.shape[1] + 1) // 2), saturated=layer.saturated + saturated,
            outputs=layer.outputs + made, hit=layer.hit + int(hit.sum()),
        )  # fmt: skip
    return layer


def _watched(model: Any, products: Sequence[Product]) -> Any:
    """Give a function that runs a graph and returns the codes and zero points of products by name."""
    import onnx

    wanted = {product.codes for product in products}
    wanted |= {product.zero for product in products if isinstance(product.zero, str)}
    inside = sorted(wanted - {value.name for value in model.graph.input})
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inside)
    content = model.SerializeToString()
    try:
        runner = session(content, exact=True)
    except ModelFileError:  # the exact kernels do not exist beside signed activations
        runner = session(content)

    def run(feed: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return {**feed, **dict(zip(inside, runner.run(inside, feed), strict=True))}

    return run
