from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

from effxfer.deploy.diagnose import model_report as module
from effxfer.deploy.diagnose.model_report import examine, same_outputs, thread_counts
from effxfer.deploy.graph.graph import open_graph
from effxfer.errors import ModelFileError
from tests.deploy import clock
from tests.deploy.graphs import FEED, Maker, plain

UNSIGNED = "uint8 activations"


@pytest.fixture(autouse=True)
def _clock(monkeypatch):
    """Time by a clock of the tests, in this process; bare files are examined in another one."""
    clock.use(monkeypatch, module)
    monkeypatch.setattr(module, "is_untrusted", lambda _file: False)


def names(file):
    return [finding.name for finding in examine(file, seed=1)[1]]


def planted(made, tmp_path):
    return examine(made.save(tmp_path / "m.onnx"))


def test_a_clean_model_gives_no_false_alarm(tmp_path):
    report, found = planted(plain(16), tmp_path)
    assert found == []
    assert report.notes[0].startswith("nothing found")
    assert report["findings"].value == 0
    assert report.tables[0].title.startswith("Time by operator")


def thin(file, sparsity):
    """Set scattered weights of a file to zero."""
    model, rng = onnx.load(file), np.random.default_rng(0)
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.ndim == 4:
            tensor.CopyFrom(numpy_helper.from_array(value * (rng.random(value.shape) > sparsity), tensor.name))
    onnx.save(model, file)
    return file


def test_scattered_zeros_are_found_and_said_to_bring_nothing(tmp_path):
    file = thin(plain(16).save(tmp_path / "m.onnx"), 0.9)
    _, (finding,) = examine(file)
    assert finding.name.startswith("sparsity stored, not used (9")
    assert finding.how == "at most"
    assert "--method channels" in finding.advice
    assert 0 < finding.gain <= finding.share


def test_a_few_zeros_are_no_finding(tmp_path):
    assert names(thin(plain(16).save(tmp_path / "m.onnx"), 0.1)) == []


class Reader(CalibrationDataReader):
    def __init__(self, feed):
        self.left = [feed]

    def get_next(self):
        return self.left.pop() if self.left else None


def quantize(file, out, feed=FEED, activation=QuantType.QUInt8):
    quantize_static(
        file, out, Reader(feed), quant_format=QuantFormat.QDQ, per_channel=True, activation_type=activation,
        weight_type=QuantType.QInt8, extra_options={"WeightSymmetric": True},
    )  # fmt: skip
    return out


def signed(tmp_path):
    """A file whose activations are int8, for which x86 has no fast kernels."""
    return quantize(plain(64).save(tmp_path / "f.onnx"), tmp_path / "q.onnx", activation=QuantType.QInt8)


def test_a_well_quantized_model_gives_no_false_alarm(tmp_path):
    assert names(quantize(plain(64).save(tmp_path / "f.onnx"), tmp_path / "q.onnx")) == []


def test_islands_of_float_are_found_with_what_is_in_them(tmp_path):
    made = plain(8, act="HardSwish", stride=4)
    (finding,) = examine(quantize(made.save(tmp_path / "f.onnx"), tmp_path / "q.onnx"))[1]
    assert finding.name == "quantized, yet slower than float32"
    assert finding.advice.startswith("ship the float32 file")
    assert any("HardSwish" in name or "HardSigmoid" in name for name in finding.nodes)


def residual():
    """A network with a sum and with pooling."""
    made = Maker()
    made.conv(32)
    made.add("Relu")
    before = made.add("MaxPool", made.at, kernel_shape=[2, 2], strides=[2, 2])
    made.conv(32)
    made.add("Add", made.at, before)
    made.conv(32)
    made.head()
    return made


def test_signed_activations_are_found(tmp_path):
    file = quantize(residual().save(tmp_path / "f.onnx"), tmp_path / "q.onnx", activation=QuantType.QInt8)
    (finding,) = [finding for finding in examine(file)[1] if finding.name == "int8 activations"]
    assert "u8s8" in finding.advice
    assert finding.how == "measured"


def test_multiply_adds_of_every_kind_of_quantized_file_are_those_of_the_float_file(tmp_path):
    file = plain(32).save(tmp_path / "f.onnx")
    counted = examine(file)[0]["macs"].value
    quantize_dynamic(file, tmp_path / "d.onnx")
    quantize_static(file, tmp_path / "o.onnx", Reader(FEED), quant_format=QuantFormat.QOperator)
    assert counted > 0.5
    for name in ("d.onnx", "o.onnx"):
        assert examine(tmp_path / name)[0]["macs"].value == pytest.approx(counted)


def test_a_dynamic_file_that_is_slower_than_float32_is_found(tmp_path):
    quantize_dynamic(plain(32).save(tmp_path / "f.onnx"), tmp_path / "d.onnx")
    report, (finding, *_) = examine(tmp_path / "d.onnx")
    assert finding.name == "ConvInteger, MatMulInteger slower than float32"
    assert finding.how == "measured"
    assert finding.advice.startswith("ship the float32 file; quantize with ranges measured beforehand")
    assert len(finding.nodes) == 4
    assert not any(note.startswith("nothing found") for note in report.notes)


def test_a_qoperator_file_of_int8_activations_is_found(tmp_path):
    quantize_static(
        plain(32).save(tmp_path / "f.onnx"), tmp_path / "o.onnx", Reader(FEED), quant_format=QuantFormat.QOperator,
    )  # fmt: skip
    found = {finding.name: finding for finding in examine(tmp_path / "o.onnx")[1]}
    assert found["int8 activations"].how == "measured"
    assert found["int8 activations"].gain > 20


def test_transposes_between_layers_are_found(tmp_path):
    made = Maker()
    for _ in range(4):
        made.conv(8, 1)
        made.add("Transpose", made.at, perm=[0, 1, 3, 2])
        made.add("Softmax", axis=2)
    made.head()
    found = {finding.name: finding for finding in planted(made, tmp_path)[1]}
    moving = found["moving data, not computing"]
    assert moving.how == "at most"
    assert moving.gain == moving.share > 20
    assert any(name.startswith("Transpose") for name in moving.nodes)


@pytest.mark.slow
def test_an_int8_mobilenetv3_is_found(tmp_path):
    import timm
    import torch

    from effxfer.deploy.export.onnx import convert

    torch.manual_seed(0)
    net = timm.create_model("mobilenetv3_small_100", num_classes=10).eval()
    onnx.save(convert(net, (torch.zeros(2, 3, 64, 64),)), tmp_path / "f.onnx")
    feed = {"images": np.random.default_rng(0).standard_normal((4, 3, 64, 64)).astype(np.float32)}
    assert names(tmp_path / "f.onnx") == []
    report, found = examine(quantize(tmp_path / "f.onnx", tmp_path / "q.onnx", feed), size=64)
    kinds = {"quantized, yet slower than float32", "float32 islands among quantized operators"}
    (finding,) = [one for one in found if one.name in kinds | {"conversions between int8 and float32"}]
    assert len(finding.nodes) > 20
    assert report["share/convert"].value > 5


def test_the_largest_gain_comes_first_and_the_table_says_it(tmp_path):
    sparse = thin(residual().save(tmp_path / "f.onnx"), 0.9)
    report, found = examine(quantize(sparse, tmp_path / "q.onnx", activation=QuantType.QInt8))
    assert {finding.how for finding in found} == {"measured", "at most"}
    assert [finding.gain for finding in found] == sorted((finding.gain for finding in found), reverse=True)
    assert [row["finding"] for row in report.tables[0].rows] == [finding.name for finding in found]


def test_what_is_listed_adds_up(tmp_path):
    report, _ = planted(plain(16), tmp_path)
    operators = next(table for table in report.tables if table.title.startswith("Time by operator"))
    assert sum(row["ms"] for row in operators.rows) == pytest.approx(report["kernels"].value, abs=0.01)
    assert sum(row["MMACs"] or 0 for row in operators.rows) == pytest.approx(report["macs"].value)
    by_hand = 64 * 16 * 27 + 2 * 64 * 16 * 144 + 5 * 16
    assert report["macs"].value * 1e6 == pytest.approx(by_hand)
    slowest = next(table for table in report.tables if "slowest" in table.title)
    assert [row["ms"] for row in slowest.rows] == sorted((row["ms"] for row in slowest.rows), reverse=True)
    assert {"Conv_0", "Conv_2", "Conv_4"} <= {row["node"] for row in slowest.rows}


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"rounds": 4}, "undecided"),
        ({"ratio_high": 1.01}, "undecided"),
        ({"ratio": 0.99, "ratio_low": 0.985}, "tried, not faster"),
    ],
)
def test_what_is_not_certain_is_no_finding(tmp_path, monkeypatch, changes, note):
    def compare(runners, **_):
        sure = {name: clock.timing(name, 1.0, 0.5 if name == UNSIGNED else 1.0) for name in runners}
        return [replace(one, **changes) if one.name == UNSIGNED else one for one in sure.values()]

    monkeypatch.setattr(module, "compare", compare)
    report, found = examine(signed(tmp_path))
    assert found == []
    assert any(one.startswith(note) and UNSIGNED in one for one in report.notes)


def test_noise_that_is_larger_than_a_gain_hides_it(tmp_path, monkeypatch):
    def compare(runners, **_):
        ratios = {UNSIGNED: 0.9, module.REPEAT: 1.12}
        return [clock.timing(name, 1.0, ratios.get(name, 1.0)) for name in runners]

    monkeypatch.setattr(module, "compare", compare)
    assert examine(signed(tmp_path))[1] == []


def test_a_graph_that_answers_otherwise_is_not_counted(tmp_path, monkeypatch):
    def wrong(graph):
        model = plain(16, seed=9).graph().model
        return module.Rewrite(model=model, nodes=("Conv_0",))

    monkeypatch.setattr("effxfer.deploy.diagnose.measurements.to_unsigned", wrong)
    report, found = examine(signed(tmp_path))
    assert found == []
    assert any(f"outputs from the file: {UNSIGNED}" in note for note in report.notes)


def test_outputs_are_compared_with_nan_and_shape(tmp_path):
    one, other = plain(16).save(tmp_path / "a.onnx"), plain(16, seed=3).save(tmp_path / "b.onnx")
    assert same_outputs(one, one, FEED)
    assert not same_outputs(one, other, FEED)


def test_counts_of_threads_to_try():
    assert thread_counts(1) == [1]
    assert thread_counts(6) == [1, 2, 4, 6]
    assert thread_counts(8) == [1, 2, 4, 8]


def test_a_broken_file_is_refused(tmp_path):
    file = tmp_path / "m.onnx"
    file.write_bytes(plain(16).save(file).read_bytes()[:-500])
    with pytest.raises(ModelFileError):
        examine(file)


def test_what_was_fed_is_told_where_a_file_fixes_its_sides(tmp_path):
    model = onnx.load(plain(16).save(tmp_path / "m.onnx"))
    for dim, side in zip(model.graph.input[0].type.tensor_type.shape.dim, (4, *FEED["x"].shape[1:]), strict=True):
        dim.dim_value = side
    onnx.save(model, tmp_path / "four.onnx")
    notes = examine(tmp_path / "four.onnx", batch=8, size=100)[0].notes
    assert any(", batch 4, 1 thread;" in note for note in notes)
    assert "the file: fed 4 images per call, not 8: the batch is fixed in the file" in notes
    assert "the file: fed no side of 100: its sides are fixed" in notes
    side = FEED["x"].shape[2]
    assert not any("fixed" in note for note in examine(tmp_path / "four.onnx", batch=4, size=side)[0].notes)


def test_the_real_clock_runs_too(tmp_path, monkeypatch):
    monkeypatch.undo()
    report, _ = examine(plain(16).save(tmp_path / "m.onnx"), max_seconds=0.2)
    assert not [note for note in report.notes if "nan" in note]
    assert report["p50"].value > 0
    assert open_graph(tmp_path / "m.onnx").opset == 20
