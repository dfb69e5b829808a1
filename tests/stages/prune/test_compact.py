import pytest
import torch

from effxfer.errors import SettingsError
from tests import tiny

COMPACT, STRUCTURED = "prune compact", "prune structured"
MORE = {"fit": {**tiny.FIT, "epochs": 3}}


@pytest.fixture(scope="module")
def ticket(tmp_path_factory, dense, data):
    return tiny.stage(STRUCTURED, dense, tmp_path_factory.mktemp("ticket") / "ticket", data, **MORE)


@pytest.fixture(scope="module")
def small(tmp_path_factory, ticket, data):
    return tiny.stage(COMPACT, ticket, tmp_path_factory.mktemp("small") / "small", data)


def test_a_structured_ticket_becomes_smaller_in_full(ticket, small):
    report, before = small.manifest.report, ticket.net()
    after = small.net()
    assert report["sparsity/real"].value == 100
    assert report["zeros/after"].value == 0
    assert report["difference"].value <= 1e-5
    assert report["difference"].n == 8 + 8, "random inputs, and validation images"
    assert not after.masks()
    counts = [sum(p.numel() for p in net.parameters()) for net in (before, after)]
    assert counts[1] < 0.6 * counts[0]
    assert 1e6 * report["parameters/after"].value == pytest.approx(counts[1])
    images = torch.rand(4, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(after(images), before(images), rtol=0, atol=1e-4)
    for split in ("val", "test"):
        name = f"accuracy/{split}"
        assert report[name].value == ticket.manifest.report[name].value


def test_an_unstructured_ticket_says_that_it_has_gained_nothing(dense, data, tmp_path):
    sparse = tiny.stage("prune lottery", dense, tmp_path / "sparse", data, sparsity=0.1, rounds=1, fit={"epochs": 0})
    made = tiny.stage(COMPACT, sparse, tmp_path / "small", data)
    assert made.manifest.edits == sparse.manifest.edits
    assert any("no channel or head could leave" in note for note in made.manifest.report.notes)


def test_an_allowed_error_makes_it_smaller_still(small, data, tmp_path):
    made = tiny.stage(COMPACT, small, tmp_path / "smaller", data, max_error=0.05, images=16)
    report = made.manifest.report
    assert report["parameters/after"].value < report["parameters/before"].value
    assert report["error"].value <= 5 + 1e-3


def test_trains_and_exports_on(small, data, tmp_path):
    again = tiny.stage("finetune", small, tmp_path / "again", data, fit={**tiny.FIT, "epochs": 1})
    exported = tiny.stage("export", again, tmp_path / "onnx", data, int8=False)
    assert exported.manifest.report["parity/split"].value < 1e-3


def test_an_untrained_network_is_refused(data, tmp_path):
    with pytest.raises(SettingsError, match="not trained for these classes yet"):
        tiny.stage(COMPACT, tiny.BACKBONE, tmp_path / "out", data)
