from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from effxfer.deploy.cpu.targets import TARGETS
from effxfer.deploy.export.logits import onnx_logits, onnx_outputs
from effxfer.deploy.export.module import export_module
from effxfer.deploy.export.onnx import export_onnx, load, read_metadata
from effxfer.deploy.int8.evaluation import FP32, CandidateResult, Evaluator
from effxfer.deploy.int8.recipes import AUTO, DEFAULT
from effxfer.deploy.int8.search import is_slower, quantize
from effxfer.deploy.int8.target_policy import TargetPolicy
from effxfer.errors import ModelFileError
from effxfer.runtime.images.preprocess import normalize
from tests.runtimes import require_openvino
from tests.tiny_net import CLASSES, PREPROCESS, images, tiny_net


def timings(**ratios):
    """Fake the clock: a ratio per recipe, known to 1 %."""

    def compare(runners, *, baseline, threads, max_seconds):
        assert baseline == FP32
        for factory in runners.values():
            factory()()
        found = {name: ratios.get(name.replace("-", "_"), 1.0 if name == FP32 else 2.0) for name in runners}
        return [
            SimpleNamespace(name=n, p50=10 * r, ratio=r, ratio_low=r * 0.99, ratio_high=r * 1.01, n=100)
            for n, r in found.items()
        ]

    return compare


@pytest.fixture
def run(exported, pixels, labels, tmp_path):
    def go(**more):
        given = {"calibration": images(40, seed=9), "rows": pixels, "labels": labels, "max_drop": 20.0, **more}
        return quantize(exported, tmp_path / "int8.onnx", **given)

    return go


def verdicts(report):
    return {row["recipe"]: row["verdict"] for row in report.tables[0].rows}


def test_the_fastest_acceptable_recipe_is_kept(run, exported, pixels, labels, tmp_path):
    out, report = run(recipes=("u8s8", "u8s8-stem"), compare=timings(u8s8=0.8, u8s8_stem=0.5))
    assert out == tmp_path / "int8.onnx"
    assert [p.name for p in tmp_path.iterdir()] == ["int8.onnx"]
    assert verdicts(report) == {FP32: "", "u8s8": "slower than u8s8-stem", "u8s8-stem": "kept"}
    assert report["p50-ratio/int8"].value == 0.5
    assert report["size/int8"].value == pytest.approx(out.stat().st_size / 1e6)
    measured = 100 * float((onnx_logits(out, pixels).argmax(1) == labels).mean())
    assert report["accuracy/int8"].value == pytest.approx(measured)
    assert report["accuracy/int8"].n == len(labels)
    about, before = read_metadata(out), read_metadata(exported)
    assert about.precision == "int8 u8s8-stem"
    assert (about.labels, about.input, about.key, about.extra) == (
        before.labels, before.input, before.key, before.extra,
    )  # fmt: skip


def test_a_recipe_that_costs_one_class_too_much_is_refused(run, exported, pixels, labels, tmp_path):
    both = {"recipes": ("u8s8",), "compare": timings(u8s8=0.5), "max_drop": 100.0}
    out, _ = run(**both)
    before, after = (onnx_logits(file, pixels).argmax(1) == labels for file in (exported, out))
    drops = {c: 100 * (before[labels == c].mean() - after[labels == c].mean()) for c in np.unique(labels)}
    worst = max(drops.values())
    out, _ = run(**both, max_class_drop=max(worst, 0.0))
    assert out is not None
    if worst > 0:
        out, report = run(**both, max_class_drop=worst / 2)
        assert out is None
        assert f"{worst:.2f} points below fp32 in the class" in verdicts(report)["u8s8"]


def test_among_equally_fast_recipes_the_most_accurate_is_kept(run):
    _, report = run(recipes=("u8s8", "u8s8-front"), compare=timings(u8s8=0.500, u8s8_front=0.510))
    rows = {row["recipe"]: row for row in report.tables[0].rows}
    best = max(("u8s8", "u8s8-front"), key=lambda name: (rows[name]["accuracy %"], -rows[name]["ratio"]))
    assert rows[best]["verdict"] == "kept"
    assert report["accuracy/int8"].value == max(rows[n]["accuracy %"] for n in ("u8s8", "u8s8-front"))


@pytest.mark.parametrize("ratio", [0.995, 1.0, 1.5])
def test_nothing_slower_is_kept_and_an_older_file_goes(run, tmp_path, ratio):
    (tmp_path / "int8.onnx").write_bytes(b"older")
    out, report = run(recipes=("u8s8",), compare=timings(u8s8=ratio))
    assert out is None
    assert list(tmp_path.iterdir()) == []
    assert verdicts(report)["u8s8"].startswith("rejected: not faster than fp32 (ratio")
    assert report.notes[0].startswith("no int8 file")
    assert report.rows == ()


def test_nothing_less_accurate_is_kept(run, pixels, labels, exported):
    out, report = run(recipes=("u8s8", "u8s8-7bit"), max_drop=0.0, compare=timings(u8s8=0.1, u8s8_7bit=0.2))
    rows = {row["recipe"]: row for row in report.tables[0].rows}
    for name in ("u8s8", "u8s8-7bit"):
        assert ("points below fp32" in rows[name]["verdict"]) == (rows[name]["drop, points"] > 0)
    assert rows["u8s8"]["drop, points"] > 0
    assert (out is None) == (rows["u8s8-7bit"]["drop, points"] > 0)


def test_a_hopeless_candidate_is_not_timed(exported, pixels, labels, tmp_path):
    other = export_onnx(tiny_net(seed=3), tmp_path / "m.onnx", input=PREPROCESS, classes=CLASSES, key="")
    judge = Evaluator(exported, pixels, labels, 1.0, 1)
    screened = judge.screen(CandidateResult(name="other", file=other))
    assert screened.verdict.startswith("rejected: ")
    assert screened.n == 256
    whole = judge.measure(CandidateResult(name="other", file=other))
    assert whole.n == len(labels)
    assert whole.verdict == f"rejected: {whole.drop:.2f} points below fp32 on 300 images, allowed are 1"
    assert judge.measure(CandidateResult(name="same", file=exported)).verdict == ""
    assert judge.screen(CandidateResult(name="same", file=exported)).verdict == ""
    failed = CandidateResult(name="failed", file=other, verdict="failed: x")
    assert judge.screen(failed) == failed


def test_the_images_that_ranges_were_measured_on_are_told(run):
    names, clock = ("u8s8", "u8s8-percentile"), timings(u8s8=0.5)
    _, report = run(recipes=names, images=128, compare=clock)
    assert "ranges measured on 40 training images, not 128: there are no more" in report.notes
    assert "percentile ranges measured on 32 of them, to keep memory small" in report.notes
    _, report = run(recipes=names[:1], images=40, compare=clock)
    assert not any("ranges" in note for note in report.notes)


def test_a_recipe_that_fails_does_not_stop_the_others(run, monkeypatch):
    from effxfer.deploy.int8 import builder

    make = builder.make_candidate

    def picky(prepared, out, recipe, feeds, left):
        if recipe.reduce_range:
            raise ModelFileError("no such kernel")
        return make(prepared, out, recipe, feeds, left)

    monkeypatch.setattr(builder, "make_candidate", picky)
    out, report = run(recipes=("u8s8-7bit", "u8s8"), compare=timings(u8s8=0.5))
    assert out is not None
    assert verdicts(report) == {FP32: "", "u8s8-7bit": "failed: no such kernel", "u8s8": "kept"}


def test_the_real_clock_and_the_default_recipes(run, labels):
    _, report = run(recipes=DEFAULT, latency_seconds=0.5)
    rows = {row["recipe"]: row for row in report.tables[0].rows}
    assert set(rows) == {FP32, *AUTO["depthwise"]}
    assert rows[FP32]["ratio"] == 1
    timed = [row for row in rows.values() if row["p50"] is not None]
    assert len(timed) > 1
    assert all(row["ratio_low"] <= row["ratio"] <= row["ratio_high"] for row in timed)
    assert all(row["verdict"] for name, row in rows.items() if name != FP32)
    str(report)


def test_a_foreign_file_is_refused(tmp_path, pixels, labels):
    with pytest.raises(ModelFileError, match="no model file"):
        quantize(tmp_path / "absent.onnx", tmp_path / "q.onnx", calibration=pixels, rows=pixels, labels=labels)


@pytest.fixture
def vetoing(monkeypatch):
    """A target that refuses candidates by name; gives the names that it was asked about."""
    seen = []

    def refuse(start):
        def vetoed(_aim, trial, _feeds):
            seen.append(trial.name)
            return replace(trial, verdict="refused: saturates") if trial.name.startswith(start) else trial

        monkeypatch.setattr(TargetPolicy, "veto", vetoed)
        return seen

    return refuse


def test_recipes_that_are_left_out_are_not_made_and_vetoed_files_not_measured(run, vetoing, monkeypatch):
    monkeypatch.setattr("effxfer.deploy.int8.target_policy.latency_applies", lambda *_: True)
    seen = vetoing("u8s8-7bit")
    out, report = run(
        recipes=("s8s8", "u8s8-7bit", "u8s8-stem"), compare=timings(u8s8_7bit=0.1, s8s8=0.1, u8s8_stem=0.9),
        target=TARGETS["x86-vnni"],
    )  # fmt: skip
    assert out is not None
    assert seen == ["u8s8-7bit", "u8s8-stem"]
    found = verdicts(report)
    assert found.pop("s8s8").startswith("left out: int8 activations")
    assert found == {FP32: "", "u8s8-7bit": "refused: saturates", "u8s8-stem": "kept"}
    rows = {row["recipe"]: row for row in report.tables[0].rows}
    assert rows["s8s8"]["images"] == rows["u8s8-7bit"]["images"] == 0


def test_layers_and_operators_stay_in_float(run):
    def kinds(**given):
        out, _ = run(recipes=("u8s8",), compare=timings(u8s8=0.5), **given)
        graph = load(out).graph
        held = {t.name for t in graph.initializer}
        return [(n.op_type, n.input[1] in held) for n in graph.node if n.op_type in ("Conv", "Gemm")]

    every = [("Conv", False), ("Conv", False), ("Conv", False), ("Gemm", False)]
    assert kinds() == every
    assert kinds(float_layers=("depthwise.*", "head.*")) == [every[0], ("Conv", True), every[2], ("Gemm", True)]
    assert kinds(float_operators=("Gemm",)) == [*every[:3], ("Gemm", True)]
    with pytest.raises(ModelFileError, match="no layer fits 'tail"):
        kinds(float_layers=("tail.*",))
    with pytest.raises(ModelFileError, match=r"no operator 'Gem' .*did you mean 'Gemm'"):
        kinds(float_operators=("Gem",))


def test_a_file_that_anybody_wrote_is_quantized_on_arrays(tmp_path):
    net, file = tiny_net(), tmp_path / "theirs.onnx"
    inputs = torch.from_numpy(normalize(images(40), PREPROCESS))
    export_module(net, file, inputs[:2], names=("x", "y"))
    labels = onnx_outputs(file, inputs.numpy()).argmax(1)
    out, report = quantize(
        file, tmp_path / "int8.onnx", calibration=inputs[:16].numpy(), rows=inputs.numpy(), labels=labels,
        recipes=("u8s8",), max_drop=30.0, compare=timings(u8s8=0.5),
    )  # fmt: skip
    assert out == tmp_path / "int8.onnx"
    assert report["accuracy/int8"].n == 40
    assert onnx_outputs(out, inputs.numpy()).shape == (40, len(CLASSES))
    assert load(out).graph.input[0].name == "x"


@pytest.mark.parametrize(
    ("ratio", "low", "high", "slower"), [(0.51, 0.5, 0.52, False), (0.55, 0.51, 0.6, False), (0.55, 0.54, 0.56, True)]
)
def test_a_file_is_slower_only_beyond_the_noise(ratio, low, high, slower):
    fastest = SimpleNamespace(ratio=0.5, ratio_low=0.48, ratio_high=0.52)
    assert is_slower(SimpleNamespace(ratio=ratio, ratio_low=low, ratio_high=high), fastest) == slower


def test_openvino_measures_and_times_its_own_answers(run, pixels, labels, tmp_path, monkeypatch):
    require_openvino()
    from effxfer.benchmark.runtimes import openvino

    compiled, original = [], openvino.compile_model
    monkeypatch.setattr(openvino, "compile_model", lambda f, t: compiled.append(f.stem) or original(f, t))
    file, report = run(runtime="openvino", recipes=["u8s8-7bit"], compare=timings(u8s8_7bit=0.5))
    assert compiled == ["fp32" if name == FP32 else name for name in compiled]
    assert "u8s8-7bit" in compiled
    answers = onnx_logits(file, pixels, runtime="openvino")
    assert report["accuracy/int8"].value == pytest.approx(100 * float((answers.argmax(1) == labels).mean()))


def test_a_recipe_that_the_runtime_cannot_run_is_refused_alone(run, monkeypatch):
    from effxfer.deploy.int8 import evaluation

    original = evaluation.onnx_logits

    def stumble(file, *args, **more):
        if file.stem == "u8s8":
            raise ModelFileError("no kernel")
        return original(file, *args, **more)

    monkeypatch.setattr(evaluation, "onnx_logits", stumble)
    _, report = run(recipes=["u8s8", "u8s8-7bit"], compare=timings(u8s8_7bit=0.5))
    assert verdicts(report)["u8s8"] == "failed: no kernel"
    assert verdicts(report)["u8s8-7bit"] == "kept"
