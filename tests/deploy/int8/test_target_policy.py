import numpy as np
import pytest

from effxfer.deploy.cpu.targets import TARGETS, host_target
from effxfer.deploy.export.logits import onnx_logits
from effxfer.deploy.int8.evaluation import FP32, CandidateResult
from effxfer.deploy.int8.recipes import AUTO, DEFAULT
from effxfer.deploy.int8.search import quantize
from effxfer.deploy.int8.target_policy import TargetPolicy
from tests.deploy.int8.test_search import timings, verdicts
from tests.tiny_net import images

AVX2, VNNI, ARM, PORTABLE = (TARGETS[name] for name in ("x86-avx2", "x86-vnni", "arm64", "portable"))


@pytest.fixture
def run(exported, pixels, labels, tmp_path):
    def go(target, here, recipes=("u8s8", "u8s8-7bit"), compare=None, **more):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("effxfer.deploy.int8.target_policy.host_target", lambda: here)
            return quantize(
                exported, tmp_path / "int8.onnx", calibration=images(24, seed=9), rows=pixels, labels=labels,
                max_drop=20.0, recipes=recipes, target=target, compare=compare or timings(u8s8=0.5, u8s8_7bit=0.9),
                **more,
            )  # fmt: skip

    return go


def test_avx2_gets_a_file_that_does_not_saturate(run):
    out, report = run(AVX2, AVX2)
    said = verdicts(report)
    assert said["u8s8-7bit"] == "kept"
    assert "pair sums saturate" in said["u8s8"]
    assert said["u8s8"].startswith("refused for x86-avx2: ")
    assert report["saturation/int8"].value == 0
    assert "int8 is for x86-avx2: x86 with AVX2 or AVX-512, without VNNI" in report.notes
    assert out is not None


def test_portable_asks_for_weights_that_cannot_saturate(run):
    _, report = run(PORTABLE, AVX2)
    assert verdicts(report)["u8s8"] == "refused for portable: the weights of 3 of 3 layers allow saturation"
    assert verdicts(report)["u8s8-7bit"] == "kept"


def test_a_refused_candidate_is_not_timed(run):
    def compare(runners, **more):
        assert set(runners) == {FP32, "u8s8-7bit"}
        return timings(u8s8_7bit=0.5)(runners, **more)

    run(AVX2, AVX2, compare=compare)


def test_another_cpu_is_not_timed_and_accuracy_decides(run, exported, pixels, labels, tmp_path):
    def compare(runners, **more):
        raise AssertionError("timed")

    out, report = run(VNNI, AVX2, recipes=("u8s8", "u8s8-7bit", "s8s8"), compare=compare)
    rows = {row["recipe"]: row for row in report.tables[0].rows}
    both = [rows["u8s8"], rows["u8s8-7bit"]]
    kept = max(both, key=lambda row: row["accuracy %"])
    assert kept["verdict"] == "kept"
    assert rows["s8s8"]["verdict"] == "left out: int8 activations with int8 weights are slow on x86-vnni"
    assert report.get("p50-ratio/int8") is None
    assert "not timed: this CPU is x86-avx2; run `effxfer bench` on x86-vnni" in report.notes
    exact = onnx_logits(out, pixels, exact=True)
    assert report["accuracy/int8"].value == pytest.approx(100 * float((exact.argmax(1) == labels).mean()))
    assert {row["CPUs"]: row["status"] for row in report.tables[-1].rows}["x86-vnni"] == "expected"


def test_a_slower_kind_is_not_measured(run):
    _, report = run(AVX2, VNNI, recipes=("u8u8", "u8s8-7bit"))
    assert verdicts(report)["u8u8"] == "of a slower kind than u8s8-7bit"
    assert verdicts(report)["u8s8-7bit"] == "kept"


def test_arm_gets_signed_activations(run):
    out, report = run(ARM, VNNI, recipes=DEFAULT)
    said = verdicts(report)
    assert all(said[name].startswith("left out") for name in AUTO["depthwise"])
    assert sorted(said[name].split()[0] for name in ("s8s8", "s8s8-stem")) in (["kept", "less"], ["kept", "kept"])
    assert [value for value in said.values() if value == "kept"] == ["kept"]
    assert out is not None


def test_nothing_is_kept_where_nothing_is_good_enough(run, tmp_path):
    (tmp_path / "int8.onnx").write_bytes(b"older")
    out, report = run(AVX2, VNNI, recipes=("u8s8",))
    assert out is None
    assert list(tmp_path.iterdir()) == []
    assert "saturate" in verdicts(report)["u8s8"]


def test_a_candidate_that_cannot_be_read_is_not_shipped(tmp_path, exported):
    from effxfer.deploy.int8.builder import feeds_of

    (tmp_path / "broken.onnx").write_bytes(b"no model")
    trial = CandidateResult(name="u8s8", file=tmp_path / "broken.onnx")
    feeds = feeds_of(exported, images(2))
    assert TargetPolicy(AVX2).veto(trial, feeds).verdict.startswith("failed: ONNX Runtime refuses the file")
    assert TargetPolicy(ARM).veto(trial, feeds) == trial


@pytest.mark.skipif(host_target().name != "x86-avx2", reason="needs a CPU whose sums saturate")
def test_the_claim_a_kept_file_answers_here_as_everywhere(run, pixels):
    """Null setting: the refused file, whose answers depend on the CPU."""
    kept, _ = run(AVX2, AVX2)
    own, exact = (onnx_logits(kept, pixels, exact=exact) for exact in (False, True))
    np.testing.assert_array_equal(own, exact)
    refused, _ = run(VNNI, VNNI, recipes=("u8s8",))
    own, exact = (onnx_logits(refused, pixels, exact=exact) for exact in (False, True))
    assert np.abs(own - exact).max() > 0
