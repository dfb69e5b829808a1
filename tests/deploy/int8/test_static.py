from importlib.util import find_spec

import numpy as np
import onnx
import pytest
import torch

from effxfer.deploy.export.onnx import export_onnx, load
from effxfer.deploy.int8.recipes import RECIPES, Recipe
from effxfer.deploy.int8.static import Feeds, float_nodes_of, is_depthwise, prepare, write_candidate
from effxfer.errors import ModelFileError
from effxfer.runtime.images.preprocess import Preprocess
from tests.tiny_net import CLASSES, PREPROCESS, images, tiny_net
from tests.tiny_text import TOKENS, rows


@pytest.fixture(scope="module")
def sparse(tmp_path_factory):
    """A ticket: two thirds of every kernel are zero."""
    net = tiny_net()
    with torch.no_grad():
        for weight in (p for p in net.parameters() if p.ndim > 1):
            weight.view(-1)[torch.arange(weight.numel()) % 3 > 0] = 0
    folder = tmp_path_factory.mktemp("sparse")
    file = export_onnx(net, folder / "m.onnx", input=PREPROCESS, classes=CLASSES, key="")
    return prepare(file, folder / "prepared.onnx")


@pytest.fixture(scope="module")
def feeds():
    return Feeds(name="images", rows=images(20), input=PREPROCESS)


def kernels(file):
    """Weights by the node that reads them, through a DequantizeLinear where there is one: value, zero point."""
    graph = load(file).graph
    held = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    made = {n.output[0]: n for n in graph.node if n.op_type == "DequantizeLinear"}
    found = {}
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm"):
            source = made.get(node.input[1])
            weight, zero = (held[source.input[0]], held[source.input[2]]) if source else (held[node.input[1]], 0)
            found[node.name] = (weight, np.reshape(zero, -1)[0])
    return found


@pytest.mark.parametrize("name", ["u8s8", "u8s8-7bit", "s8s8", "u8u8", "u8s8-front", "u8s8-percentile"])
def test_zeros_of_a_ticket_stay_exact_zeros(sparse, feeds, tmp_path, name):
    before = kernels(sparse)
    after = kernels(write_candidate(sparse, tmp_path / "c.onnx", RECIPES[name], feeds, tmp_path))
    assert before.keys() == after.keys()
    for node, (weight, _) in before.items():
        quantized, zero = after[node]
        zeros = (quantized == zero).reshape(weight.shape) if quantized.shape == weight.shape else (zero == quantized.T)
        assert (weight == 0).mean() > 0.6
        assert zeros[weight == 0].all()


def test_seven_bits(sparse, feeds, tmp_path):
    full = kernels(write_candidate(sparse, tmp_path / "a.onnx", RECIPES["u8s8"], feeds, tmp_path))
    reduced = kernels(write_candidate(sparse, tmp_path / "b.onnx", RECIPES["u8s8-7bit"], feeds, tmp_path))
    assert {w.dtype for w, _ in full.values()} == {np.dtype(np.int8)}
    assert max(np.abs(w.astype(int)).max() for w, _ in full.values()) == 127
    assert max(np.abs(w.astype(int)).max() for w, _ in reduced.values()) <= 64


def test_what_stays_in_float(sparse):
    graph = load(sparse).graph
    heavy = [n.name for n in graph.node if n.op_type in ("Conv", "Gemm")]
    depthwise = [n.name for n in graph.node if is_depthwise(n)]
    assert len(heavy) == 4
    assert depthwise == heavy[1:2]
    assert float_nodes_of(graph, Recipe()) == []
    assert float_nodes_of(graph, Recipe(float_first=2)) == sorted(heavy[:2])
    assert float_nodes_of(graph, Recipe(float_last=True)) == heavy[-1:]
    assert float_nodes_of(graph, Recipe(float_first=1, float_depthwise=True)) == sorted(heavy[:2])
    assert float_nodes_of(graph, Recipe(float_first=99)) == sorted(heavy)


def test_float_layers_keep_their_weights(sparse, feeds, tmp_path):
    found = kernels(write_candidate(sparse, tmp_path / "c.onnx", RECIPES["u8s8-ends"], feeds, tmp_path))
    kinds = [weight.dtype.name for weight, _ in found.values()]
    assert kinds == ["float32", "int8", "int8", "float32"]


def test_ranges_are_measured_once(sparse, feeds, tmp_path):
    write_candidate(sparse, tmp_path / "a.onnx", RECIPES["u8s8"], feeds, tmp_path)
    none = Feeds(name="images", rows=images(0), input=PREPROCESS)
    write_candidate(sparse, tmp_path / "b.onnx", RECIPES["u8s8"], none, tmp_path)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_a_graph_that_cannot_be_prepared_is_named(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"nonsense")
    with pytest.raises(ModelFileError, match=r"m\.onnx cannot be quantized"):
        prepare(tmp_path / "m.onnx", tmp_path / "p.onnx")


def test_quantizer_says_nothing(sparse, feeds, tmp_path, capfd, caplog):
    write_candidate(sparse, tmp_path / "c.onnx", RECIPES["u8s8"], feeds, tmp_path)
    assert capfd.readouterr().out == ""
    assert caplog.records == []


def drawn(count, batch=16):
    pixels = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    same = Preprocess(size=2, mean=(0, 0, 0), std=(1 / 255, 1 / 255, 1 / 255))
    reader = Feeds(name="x", rows=pixels, input=same, batch=batch).reader()
    return [feed["x"][:, 0, 0, 0].round().tolist() for feed in iter(reader.get_next, None)]


def test_batches_have_equal_size_and_leave_no_image_out():
    assert drawn(5, batch=2) == [[0, 1], [2, 3], [3, 4]]
    assert drawn(4, batch=2) == [[0, 1], [2, 3]]
    assert drawn(3, batch=8) == [[0, 1, 2]]
    assert drawn(0) == []


def test_some_images_are_spread_evenly():
    pixels = np.arange(100, dtype=np.uint8)[:, None, None, None]
    feeds = Feeds(name="x", rows=pixels, input=PREPROCESS)
    few = [feeds.subset(4, seed).rows.ravel() for seed in (0, 0, 1)]
    assert [value // 25 for value in few[0]] == [0, 1, 2, 3], "one of each quarter"
    assert few[0].tolist() == few[1].tolist() != few[2].tolist()
    assert feeds.subset(1000).rows.ravel().tolist() == list(range(100))


@pytest.mark.skipif(find_spec("tokenizers") is None, reason="texts need the package tokenizers")
def test_texts_are_sorted_by_length_so_that_ranges_are_not_those_of_padding():
    feeds = Feeds(name="ids", rows=rows(40), input=TOKENS, batch=8).subset(24)
    batches = [feed["ids"] for feed in feeds.batches()]
    assert [batch.shape[0] for batch in batches] == [8, 8, 8]
    assert [batch.shape[1] for batch in batches] == [feeds.rows.lengths[n] for n in (7, 15, 23)]
    assert (np.diff(feeds.rows.lengths) >= 0).all()
    assert feeds.unit == "texts"


@pytest.mark.skipif(find_spec("tokenizers") is None, reason="texts need the package tokenizers")
def test_a_file_is_timed_on_the_text_of_median_length():
    feeds = Feeds(name="ids", rows=rows(41), input=TOKENS)
    assert feeds.typical()["ids"].shape == (1, int(np.median(feeds.rows.lengths)))


@pytest.mark.skipif(find_spec("tokenizers") is None, reason="texts need the package tokenizers")
def test_a_histogram_of_texts_is_of_one_batch():
    (batch,) = Feeds(name="ids", rows=rows(60), input=TOKENS).histogram_subset().batches()
    assert len(batch["ids"]) == 32
    assert len(list(Feeds(name="images", rows=images(60), input=PREPROCESS).histogram_subset().batches())) == 2
