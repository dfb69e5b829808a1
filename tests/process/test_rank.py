"""Which of `torchrun`'s processes writes and prints."""

from effxfer.process.rank import leads


def test_only_the_first_process_of_torchrun_leads_and_a_single_process_does(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    assert leads()
    monkeypatch.setenv("RANK", "1")
    assert not leads()
    monkeypatch.setenv("RANK", "0")
    assert leads()
