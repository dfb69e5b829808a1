"""What effxfer wrote on 2026-11-29, before its rooms were moved, is read for ever: networks, tickets, adapters, ONNX.

`golden/run` is `effxfer run golden/golden.toml`, without its report page; `golden/logits.json` holds what its networks
answered then to the same three random images.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from effxfer import __version__
from effxfer.artifact import Artifact
from effxfer.runtime.model import Model
from effxfer.runtime.session import open_session

GOLDEN = Path(__file__).parent / "golden"
RUN, PLAN = GOLDEN / "run", GOLDEN / "golden.toml"
LOGITS = {name: np.array(rows) for name, rows in json.loads((GOLDEN / "logits.json").read_text()).items()}
IMAGES = np.random.default_rng(0).normal(size=(3, 3, 16, 16)).astype(np.float32)
CLOSE = {"rtol": 1e-4, "atol": 1e-4}  # other CPUs sum in other orders


@torch.inference_mode()
def answers(path):
    return Artifact.load(path).net()(torch.from_numpy(IMAGES)).numpy()


def onnx_answers(path):
    session = open_session(path / "model.onnx")
    return session.run(None, {session.get_inputs()[0].name: IMAGES})[0]


def contents(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(RUN, tmp_path / "run")


@pytest.mark.parametrize("name", ["1-dense", "2-ticket", "3-adapter"])
def test_its_networks_answer_as_then(name):
    np.testing.assert_allclose(answers(RUN / name), LOGITS[name], **CLOSE)


def test_its_exported_model_answers_as_then():
    np.testing.assert_allclose(onnx_answers(RUN / "4-onnx"), LOGITS["4-onnx"], **CLOSE)
    assert Model(RUN / "4-onnx" / "model.onnx").labels == tuple("0123456789")


def test_its_ticket_keeps_its_zeros():
    weights = [t for n, t in Artifact.load(RUN / "2-ticket").net().state_dict().items() if n.startswith("body.")]
    assert sum(int((t == 0).sum()) for t in weights) >= 0.4 * sum(t.numel() for t in weights)


def test_its_ticket_file_is_trained_again(call, tmp_path):
    call("ticket", "apply", RUN / "2-ticket" / "ticket.safetensors", "--data", "digits", "--out", tmp_path / "again",
         "--set", "fit.epochs=0", "--set", "fit.keep=last")  # fmt: skip
    assert Artifact.load(tmp_path / "again").manifest.classes == tuple("0123456789")


def test_its_adapter_file_goes_on_its_base_again(call, tmp_path):
    file, base = RUN / "3-adapter" / "adapter.safetensors", RUN / "1-dense"
    call("adapter", "apply", file, base, "--data", "digits", "--out", tmp_path / "again", "--set", "merge=false")
    np.testing.assert_allclose(answers(tmp_path / "again"), LOGITS["3-adapter"], **CLOSE)


@pytest.mark.skipif(__version__ != "0.1.0", reason="the version is part of the key: a newer one makes results anew")
def test_its_pipeline_is_done_and_exports_the_same_again(call, copy):
    before = contents(copy)
    call("run", PLAN, "--out", copy)
    after = contents(copy)
    assert {name: after[name] for name in before} == before, "nothing was run again"
    shutil.rmtree(copy / "4-onnx")
    call("run", PLAN, "--out", copy)
    np.testing.assert_allclose(onnx_answers(copy / "4-onnx"), LOGITS["4-onnx"], **CLOSE)
    assert Artifact.load(copy / "4-onnx").manifest.key == Artifact.load(RUN / "4-onnx").manifest.key
