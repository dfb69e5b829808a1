from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from onnx import TensorProto, helper, numpy_helper

from effxfer.benchmark.measure.size import measure_size
from effxfer.benchmark.protocol.runners import feed_for
from effxfer.deploy.cpu.saturation import saturation
from effxfer.deploy.cpu.targets import ANY, TARGETS
from effxfer.deploy.diagnose.model_report import examine
from effxfer.deploy.export.logits import onnx_logits, open_model
from effxfer.deploy.export.onnx import export_onnx, load
from effxfer.deploy.graph.graph import open_graph
from effxfer.deploy.graph.qoperators import dynamic_to_float
from effxfer.deploy.int8 import embeddings
from effxfer.deploy.int8.builder import CandidateBuilder, feeds_of
from effxfer.deploy.int8.candidate import make_candidate, suitable_recipes
from effxfer.deploy.int8.embeddings import embedding_tables, round_rows, round_tables
from effxfer.deploy.int8.evaluation import FP32
from effxfer.deploy.int8.recipes import AUTO, DEFAULT, RECIPES
from effxfer.deploy.int8.search import quantize
from effxfer.deploy.int8.static import prepare
from effxfer.deploy.int8.target_policy import TargetPolicy
from effxfer.errors import ModelFileError
from tests.deploy.clock import timing
from tests.tiny_text import rows, text_net

SMALL = 64  # the tiny network's table has fewer numbers than a real one


@pytest.fixture
def small_tables(monkeypatch):
    monkeypatch.setattr(embeddings.round_tables, "__defaults__", ((), SMALL))
    monkeypatch.setattr(embeddings.embedding_tables, "__defaults__", ((), SMALL))


@pytest.fixture(scope="module")
def exported_text(tmp_path_factory):
    net = text_net()
    folder = tmp_path_factory.mktemp("text")
    return export_onnx(net, folder / "m.onnx", input=net.input, classes=net.classes, key="k")


def candidate(file, folder, name, float_nodes=()):
    builder = CandidateBuilder(file, folder, feeds_of(file, rows(16)), TargetPolicy(ANY))
    result = builder.candidate(name, float_nodes=float_nodes)
    assert result.verdict == ""
    return result.file


@given(
    arrays(
        np.float32,
        array_shapes(min_dims=2, max_dims=2, max_side=20),
        elements=st.floats(-1e6, 1e6, width=32),
    )
)
def test_a_row_errs_by_half_a_scale_at_most(table):
    codes, scale = round_rows(table)
    assert (codes.dtype, codes.shape, scale.shape) == (np.int8, table.shape, (len(table), 1))
    assert (np.abs(codes * scale.astype(np.float64) - table) <= 0.50001 * scale).all()
    largest = np.abs(table).max(1)
    assert (np.abs(codes).max(1)[largest > 1e-20] == 127).all()
    assert (codes[table == 0] == 0).all()


def test_claim_a_scale_for_each_row_keeps_rows_that_one_scale_for_the_table_would_lose():
    rng = np.random.default_rng(0)
    # Norms from 0.01 to 1, as those of frequent and of rare words differ.
    norms = 10 ** rng.uniform(-2, 0, (500, 1))
    table = (norms * rng.standard_normal((500, 64))).astype(np.float32)
    codes, scale = round_rows(table)
    step = np.abs(table).max() / 127

    def worst(rounded):
        return (np.linalg.norm(rounded - table, axis=1) / np.linalg.norm(table, axis=1)).max()

    assert worst(codes * scale) < 0.02
    assert worst(np.rint(table / step) * step) > 0.5


@given(
    arrays(np.float32, (9, 5), elements=st.floats(-10, 10, width=32)),
    st.lists(st.lists(st.integers(-9, 8), min_size=3, max_size=3), min_size=1, max_size=4),
)
def test_a_look_up_gives_the_rounded_rows_of_any_ids(table, ids):
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "ids"], ["rows"], name="look")], "g",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["b", 3])],
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["b", 3, 5])],
        [numpy_helper.from_array(table, "table")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    assert round_tables(model, smallest=1) == ["table"]
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"ids": np.array(ids)})
    codes, scale = round_rows(table)
    np.testing.assert_array_equal(got, (codes.astype(np.float32) * scale)[np.array(ids)])


def test_tables_that_are_read_otherwise_stay():
    def graph_of(*nodes):
        return helper.make_graph(
            [helper.make_node("Gather", ["table", "ids"], ["rows"], name="look"), *nodes], "g",
            [], [], [numpy_helper.from_array(np.ones((200, 100), np.float32), "table")],
        )  # fmt: skip

    tied = helper.make_node("MatMul", ["rows", "table"], ["product"], name="tied")
    columns = helper.make_node("Gather", ["table", "ids"], ["columns"], name="columns", axis=1)
    assert embedding_tables(graph_of()) == ["table"]
    assert embedding_tables(graph_of(tied)) == []
    assert embedding_tables(graph_of(columns)) == []
    assert embedding_tables(graph_of(), ("look",)) == []
    assert embedding_tables(graph_of(), smallest=20_001) == []


@pytest.mark.usefixtures("small_tables")
@pytest.mark.parametrize("name", ["dynamic-table", "dynamic-7bit-table", "u8s8-heavy-table", "weights-table"])
def test_answers_nearly_as_without_the_table_in_a_smaller_file(exported_text, tmp_path, name):
    plain = candidate(exported_text, tmp_path, name.removesuffix("-table"))
    file = candidate(exported_text, tmp_path, name)
    texts = rows(40, seed=1)
    exact, before, got = (onnx_logits(f, texts, threads=1) for f in (exported_text, plain, file))
    assert file.stat().st_size < plain.stat().st_size
    assert 0 < np.abs(got - before).max() < 0.1 * np.abs(exact).max()
    tables = [t for t in load(file).graph.initializer if t.name.endswith("tokens.weight_quantized")]
    assert [t.data_type for t in tables] == [TensorProto.INT8]
    assert {node.domain for node in load(file).graph.node} == {""}


@pytest.mark.usefixtures("small_tables")
def test_the_rest_of_the_house_reads_the_file(exported_text, tmp_path):
    file = candidate(exported_text, tmp_path, "dynamic-table")
    assert measure_size(file).params > 0.9 * measure_size(exported_text).params
    assert feed_for(file)["ids"].dtype == np.int64
    assert open_model(file, 1).metadata.precision == "int8 dynamic-table"
    assert len(saturation(file, feeds_of(file, rows(4))).layers) > 0
    rewrite = dynamic_to_float(open_graph(file))
    assert {node.op_type for node in rewrite.model.graph.node} >= {"Gather", "Cast", "MatMul"}
    report, _ = examine(file, max_seconds=1)
    assert report.rows


@pytest.mark.usefixtures("small_tables")
def test_look_ups_left_in_float(exported_text, tmp_path):
    looks = [node.name for node in load(exported_text).graph.node if node.op_type == "Gather"]
    builder = CandidateBuilder(exported_text, tmp_path, feeds_of(exported_text, rows(16)), TargetPolicy(ANY))
    assert builder.candidate("dynamic-table", float_nodes=looks).verdict == "failed: no embedding table to quantize"
    with pytest.raises(ModelFileError, match="no embedding table"):
        make_candidate(builder.prepared, tmp_path / "c.onnx", replace(RECIPES["dynamic"], tables=True), None, looks)


def test_networks_with_tables_try_them_by_default(exported_text, tmp_path, small_tables):
    graph = load(prepare(exported_text, tmp_path / "p.onnx")).graph
    assert suitable_recipes(graph, DEFAULT) == AUTO["tables"]


@pytest.mark.usefixtures("small_tables")
@pytest.mark.parametrize("target", ["x86-avx2", "x86-vnni"])
def test_of_recipes_as_fast_the_one_with_int8_tables_ships(exported_text, tmp_path, target):
    def compare(runners, **_):
        return [timing(name, 1.0, 1.0 if name == FP32 else 0.5) for name in runners]

    out, report = quantize(
        exported_text, tmp_path / "q.onnx", calibration=rows(16), rows=rows(40, seed=1),
        labels=np.zeros(40, np.int64), max_drop=100, recipes=("dynamic-7bit", "dynamic-7bit-table"),
        target=TARGETS[target], compare=compare,
    )  # fmt: skip
    verdicts = {row["recipe"]: row["verdict"] for row in report.tables[0].rows}
    assert verdicts["dynamic-7bit-table"] == "kept"
    assert "larger" in verdicts["dynamic-7bit"]
    assert out is not None
