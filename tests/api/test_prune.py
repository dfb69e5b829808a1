import pytest

import effxfer as ex
from effxfer.errors import SettingsError
from tests import tiny

PLAIN = {"device": "cpu", "epochs": 0, "options": tiny.PLAIN}


def parameters(result):
    return sum(parameter.numel() for parameter in result.network().parameters())


def test_prune_channels_makes_a_smaller_network(dense, tmp_path):
    result = ex.prune_channels(dense, out=tmp_path / "out", ratio=0.5, scope="layer", **PLAIN)
    assert parameters(result) < parameters(ex.load(dense.path))
    assert result.classes == tiny.CLASSES


@pytest.mark.parametrize("target", [{}, {"ratio": 0.5, "latency_ratio": 0.5}])
def test_prune_channels_needs_exactly_one_target(dense, tmp_path, target):
    with pytest.raises(SettingsError, match="set exactly one of ratio, macs_ratio, latency_ratio and latency_ms"):
        ex.prune_channels(dense, out=tmp_path / "out", **target)


def test_prune_to_latency_names_its_target(dense, tmp_path):
    plan = ex.preview(ex.prune_to_latency, dense, out=tmp_path / "out", ratio=0.5, **PLAIN)
    assert plan["settings"]["latency_ratio"] == 0.5
    assert plan["settings"]["latency_ms"] is None


@pytest.mark.parametrize(("method", "share"), [("lottery", "sparsity"), ("structured", "ratio")])
def test_find_ticket_leaves_a_ticket(dense, tmp_path, method, share):
    result = ex.find_ticket(dense, out=tmp_path / "out", method=method, rounds=1, **{share: 0.5}, **PLAIN)
    assert "ticket.safetensors" in result.manifest.files
    smaller = ex.compact(result, out=tmp_path / "small", images=8, device="cpu")
    assert parameters(smaller) <= parameters(result)


def test_an_unknown_method_is_refused(dense, tmp_path):
    with pytest.raises(SettingsError, match="did you mean 'lottery'"):
        ex.find_ticket(dense, out=tmp_path / "out", method="lotery")
