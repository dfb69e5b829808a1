from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from effxfer.deploy.cpu.integer_ops import integer_products
from effxfer.deploy.cpu.saturation import Layer, Saturation, bound_saturation, pair_sums, saturation
from effxfer.deploy.cpu.targets import host_target
from effxfer.deploy.export.logits import EXACT, onnx_logits
from effxfer.deploy.export.onnx import load, read_metadata, write_metadata
from effxfer.deploy.int8.builder import feeds_of
from effxfer.deploy.int8.recipes import RECIPES
from effxfer.deploy.int8.static import Feeds, prepare, write_candidate
from effxfer.runtime.images.preprocess import Preprocess
from tests.deploy.planted import OTHERS, WIDE, chain, planted, rounded, run
from tests.tiny_net import images

saturating_cpu = pytest.mark.skipif(
    host_target().name != "x86-avx2", reason="compares with kernels of x86 without VNNI"
)
CONVS = {
    "stem": ((16, 3, 3, 3), {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
    "3x3": ((16, 8, 3, 3), {"pads": [1, 1, 1, 1]}),
    "one-sided pads": ((8, 6, 3, 2), {"pads": [0, 1, 2, 0]}),
    "dilated": ((8, 5, 3, 3), {"dilations": [2, 1], "pads": [2, 1, 2, 1]}),
    "1x1": ((64, 16, 1, 1), {}),
    "1x1, odd": ((12, 5, 1, 1), {"strides": [2, 2]}),
    "4 groups": ((16, 4, 3, 3), {"group": 4, "pads": [1, 1, 1, 1]}),
    "two out per group": ((12, 1, 3, 3), {"group": 6, "pads": [1, 1, 1, 1]}),
}
PRODUCTS = ("MatMulInteger", "MatMulIntegerToFloat", "QLinearMatMul", "QGemm")


def drawn(shape, seed=0, low=-127, high=127, dtype=np.int8):
    return np.random.default_rng(seed).integers(low, high + 1, shape).astype(dtype)


def emulated(file, codes, zero):
    """Multiply as the emulation does; give sums `(M, O)` with the zero point taken off, and how many pairs were cut."""
    _, (product,) = integer_products(file)
    parts = list(zip(product.rows(codes, int(zero)), product.matrices(), strict=True))
    sums = [saturated_product(rows, w) - int(zero) * w.astype(int).sum(0) for rows, w in parts]
    return np.concatenate(sums, axis=1), sum(pair_sums(rows, w)[0] for rows, w in parts)


def saturated_product(rows, weights):
    """Multiply codes `(M, K)` with weights `(K, O)` as `vpmaddubsw` does; return `(M, O)`."""
    odd = rows.shape[1] % 2
    rows, weights = np.pad(rows, ((0, 0), (0, odd))).astype(int), np.pad(weights, ((0, odd), (0, 0))).astype(int)
    pairs = [np.clip(rows[:, k : k + 2] @ weights[k : k + 2], -32768, 32767) for k in range(0, len(weights), 2)]
    return np.sum(pairs, axis=0)


def with_metadata(file, exported):
    """Give a candidate what `Model` asks for."""
    model = load(file)
    write_metadata(model, read_metadata(exported))
    file.write_bytes(model.SerializeToString())
    return file


def written(tmp_path, content):
    file = tmp_path / "planted.onnx"
    file.write_bytes(content)
    return file


@saturating_cpu
@pytest.mark.parametrize("zero", [np.uint8(0), np.uint8(120)], ids=["zero 0", "zero 120"])
@pytest.mark.parametrize("name", sorted(CONVS))
def test_a_convolution_gives_what_the_cpu_gives(name, zero, tmp_path):
    shape, attributes = CONVS[name]
    codes = drawn((2, shape[1] * attributes.get("group", 1), 9, 7), 1, 90, 255, np.uint8)
    content = planted("QLinearConv", drawn(shape), zero, 4, kernel_shape=shape[2:], **attributes)
    real = run(content, codes)
    sums, cut = emulated(written(tmp_path, content), codes, zero)
    assert cut > 50
    sums = sums.reshape(2, *real.shape[2:], -1).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(rounded(sums, zero), real)


@saturating_cpu
@pytest.mark.parametrize("rows", [1, 9], ids=["one row", "rows"])
@pytest.mark.parametrize("k", [3, 16, 27, 200])
@pytest.mark.parametrize("op", PRODUCTS)
def test_a_matrix_product_gives_what_the_cpu_gives(op, k, rows, tmp_path):
    zero, turned = np.uint8(7), {"transB": 1} if op == "QGemm" else {}
    weights, codes = drawn((20, k) if turned else (k, 20)), drawn((rows, k), 1, 90, 255, np.uint8)
    content = planted(op, weights, zero, 2, **turned)
    sums, cut = emulated(written(tmp_path, content), codes, zero)
    assert cut
    wide = op in WIDE or op == OTHERS[0]
    np.testing.assert_array_equal(sums if wide else rounded(sums, zero), run(content, codes))


@pytest.mark.parametrize("kind", ["signed codes", "unsigned weights", "depthwise", "exact sums", "ConvInteger"])
def test_other_kernels_lose_nothing(kind, tmp_path):
    zero = np.int8(0) if kind == "signed codes" else np.uint8(0)
    shape, more = ((8, 1, 3, 3), {"group": 8}) if kind == "depthwise" else ((8, 8, 3, 3), {})
    weights = drawn(shape, 0, 100, 255, np.uint8) if kind == "unsigned weights" else drawn(shape)
    low, high = (60, 127) if kind == "signed codes" else (200, 255)
    codes = drawn((1, 8, 6, 6), 1, low, high, zero.dtype)
    op = kind if kind in WIDE else "QLinearConv"
    content = planted(op, weights, zero, 4, kernel_shape=[3, 3], **more)
    real = run(content, codes, EXACT if kind == "exact sums" else None)
    views = np.lib.stride_tricks.sliding_window_view(codes.astype(int), (3, 3), axis=(2, 3))
    centred = weights.astype(int) - (128 if kind == "unsigned weights" else 0)
    sums = np.einsum("nchwij,cij->nchw" if more else "nchwij,ocij->nohw", views, centred[:, 0] if more else centred)
    np.testing.assert_array_equal(sums if op in WIDE else rounded(sums, zero), real)
    _, products = integer_products(written(tmp_path, content))
    assert [product.is_depthwise for product in products] == {"depthwise": [True], "exact sums": [False]}.get(kind, [])


@settings(max_examples=60)
@given(
    shape=st.tuples(*3 * [st.integers(1, 9)]),
    seed=st.integers(0, 2**16),
    top=st.integers(0, 255),
    size=st.integers(1, 127),
)
def test_the_count_is_that_of_plain_arithmetic(shape, seed, top, size):
    m, k, o = shape
    rows, weights = drawn((m, k), seed, 0, top, np.uint8), drawn((k, o), seed + 1, -size, size)
    count, hit = pair_sums(rows, weights)
    padded = np.pad(rows, ((0, 0), (0, k % 2))).astype(int)
    below = np.pad(weights, ((0, k % 2), (0, 0))).astype(int)
    pairs = padded[:, 0::2, None] * below[0::2] + padded[:, 1::2, None] * below[1::2]
    cut = (pairs < -32768) | (pairs > 32767)
    assert count == cut.sum()
    np.testing.assert_array_equal(hit, cut.any(axis=1))
    np.testing.assert_array_equal(saturated_product(rows, weights), np.clip(pairs, -32768, 32767).sum(axis=1))
    if size <= 64:
        assert not count


def test_by_hand():
    rows = np.array([[255, 255, 255], [128, 128, 255]], np.uint8)
    weights = np.array([[127, -127, 64], [127, -127, 64], [127, 127, 127]], np.int8)
    assert saturated_product(rows, weights).tolist() == [
        [32767 + 32385, -32768 + 32385, 32640 + 32385],
        [32512 + 32385, -32512 + 32385, 16384 + 32385],
    ]
    count, hit = pair_sums(rows, weights)
    assert count == 2
    assert hit.tolist() == [[True, True, False], [False, False, False]]


def test_the_bound_by_weights_alone(tmp_path):
    weights = np.zeros((1, 4, 4), np.int8)
    weights[0, 0] = [100, 64, 100, -100]
    weights[0, 1] = [100, 64, 0, 0]
    weights[0, 2] = [0, 64, 0, 0]
    weights[0, 3] = [0, 64, 100, -100]
    content = planted("MatMulInteger", weights[0], np.uint8(0), 2)
    _, (product,) = integer_products(written(tmp_path, content))
    layer = bound_saturation(product)
    assert (layer.could, layer.any_order) == (1, 3)


@pytest.fixture(scope="module")
def candidates(exported, tmp_path_factory):
    """U8S8 files of the tiny network, with 8 and 7 bits, and the images that they were calibrated on."""
    folder = tmp_path_factory.mktemp("candidates")
    feeds = feeds_of(exported, images(24, seed=9))
    prepared = prepare(exported, folder / "prepared.onnx")
    names = ("u8s8", "u8s8-7bit", "u8u8")
    return {n: write_candidate(prepared, folder / f"{n}.onnx", RECIPES[n], feeds, folder) for n in names}, feeds


def test_a_file_with_full_range_weights_saturates(candidates):
    files, feeds = candidates
    found = saturation(files["u8s8"], feeds)
    assert found.images == 24
    assert found.saturated > 0
    assert 0 < found.saturated < found.pairs
    assert all(layer.could and layer.any_order and layer.hit <= layer.outputs for layer in found.saturating_layers)
    assert all(layer.hit <= layer.saturated for layer in found.layers)
    report = found.report("int8")
    assert report["saturation/int8"].value == pytest.approx(100 * found.saturated / found.pairs)
    assert [row["layer"] for row in report.tables[0].rows] == [layer.name for layer in found.saturating_layers]
    assert f"{found.saturated:,} of {found.pairs:,} pair sums saturate" in str(report)


@pytest.mark.parametrize("name", ["u8s8-7bit", "u8u8"])
def test_reduced_range_and_unsigned_weights_never_saturate(name, candidates):
    files, feeds = candidates
    found = saturation(files[name], feeds)
    assert (found.saturated, found.exposed_layers, found.images) == (0, (), 0)
    assert str(found) == f"no input saturates any of {len(found.layers)} layers"
    assert found.report("int8").tables == ()


def test_it_stops_once_it_has_seen_enough(candidates):
    files, feeds = candidates
    assert saturation(files["u8s8"], feeds, enough=3).images == 3
    assert saturation(files["u8s8"], feeds.subset(2), enough=3).images == 2
    assert saturation(files["u8s8"], replace(feeds, rows=feeds.rows[:0])).images == 0


@saturating_cpu
def test_where_it_counts_the_answers_change_and_elsewhere_not(candidates, exported):
    """The claim: the CPU's own sums differ from exact ones just in files that the emulation says saturate."""
    files, feeds = candidates
    for name, file in files.items():
        found = saturation(with_metadata(file, exported), feeds)
        own, exact = (onnx_logits(file, feeds.rows, exact=exact) for exact in (False, True))
        same = np.array_equal(own, exact)
        assert same == (found.saturated == 0), name


def test_planted_layers_are_found(tmp_path):
    """Full weights are planted layer by layer into a file of 7 bits: each is found, and no other."""
    (tmp_path / "chain.onnx").write_bytes(chain())
    feeds = Feeds(
        name="images",
        rows=images(12, seed=9),
        input=Preprocess(size=16, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
    )
    prepared = prepare(tmp_path / "chain.onnx", tmp_path / "prepared.onnx")
    clean = write_candidate(prepared, tmp_path / "clean.onnx", RECIPES["u8s8-7bit"], feeds, tmp_path)
    products = integer_products(clean)[1]
    assert [product.name for product in products] == ["stem", "depthwise", "pointwise", "grouped", "head"]
    assert saturation(clean, feeds).saturating_layers == ()
    for product in products:
        model = onnx.load(clean)
        tensor = next(t for t in model.graph.initializer if t.dims == list(product.weights.shape))
        tensor.CopyFrom(numpy_helper.from_array(np.full(product.weights.shape, 127, np.int8), tensor.name))
        onnx.save(model, tmp_path / "planted.onnx")
        found = [layer.name for layer in saturation(tmp_path / "planted.onnx", feeds).saturating_layers]
        assert found == ([] if product.is_depthwise else [product.name])


def test_nothing_to_count():
    empty = Saturation(layers=(), images=0)
    assert str(empty) == "no input saturates any of 0 layers"
    assert empty.report("int8")["saturation/int8"].value == 0
    assert Layer(name="a", op="QGemm").row()["of the sums %"] == 0
