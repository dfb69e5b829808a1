import pytest

import effxfer as ex
from effxfer.errors import ModelFileError, SettingsError
from effxfer.stages.settings.common import TICKET
from tests import tiny


@pytest.fixture(scope="module")
def ticket(dense, tmp_path_factory):
    out = tmp_path_factory.mktemp("ticket") / "ticket"
    return ex.find_ticket(dense, out=out, sparsity=0.5, rounds=1, epochs=0, device="cpu", options=tiny.PLAIN)


def test_a_ticket_is_read_from_its_file_or_its_directory(ticket):
    loaded = ex.load_ticket(ticket.path / TICKET)
    assert loaded.sparsity == pytest.approx(50, abs=0.1)
    assert loaded.digest == ex.load_ticket(ticket).digest == ex.load_ticket(ticket.path).digest
    assert loaded.to_json()["recipe"]["stage"] == "prune lottery"
    assert f"<code>{loaded.digest}</code>" in loaded._repr_html_()
    assert str(loaded).startswith(f"ticket: {ticket.path / TICKET}\ndigest: {loaded.digest}\n")


def test_what_is_no_ticket_is_named(dense):
    with pytest.raises(ModelFileError, match="holds no ticket"):
        ex.load_ticket(dense.path)


def test_a_ticket_is_trained(ticket, data, tmp_path):
    keywords = {"data": data, "epochs": 0, "mask": "random", "device": "cpu"}
    trained = ex.train_ticket(ex.load_ticket(ticket), out=tmp_path / "trained", **keywords)
    assert trained.manifest.settings["mask"] == "random"
    assert ex.train_ticket(ticket, out=tmp_path / "trained", **keywords).manifest == trained.manifest


def test_a_ticket_without_weights_is_packed_and_made_whole_again(ticket, dense, tmp_path):
    lean = ex.pack_ticket(ticket, out=tmp_path / "lean.safetensors", backbone=str(dense.path))
    assert lean.path.stat().st_size < (ticket.path / TICKET).stat().st_size / 2
    whole = ex.pack_ticket(lean, out=tmp_path / "whole.safetensors")
    assert whole.path.read_bytes() == (ticket.path / TICKET).read_bytes()
    assert whole.digest == lean.digest
    (tmp_path / "other").write_text("no ticket")
    with pytest.raises(SettingsError, match="is not a ticket file"):
        ex.pack_ticket(lean, out=tmp_path / "other")
