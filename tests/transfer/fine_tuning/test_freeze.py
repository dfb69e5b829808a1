import pytest
import torch

from effxfer.errors import SettingsError
from effxfer.settings import build
from effxfer.transfer.fine_tuning.freeze import Freeze, lowest_blocks
from effxfer.transfer.fine_tuning.full import Full
from tests.transfer.tasks import adapt, task

PLAIN = {"batch": 12, "augment": {"crop": "none", "flip": False}}


def test_the_lower_part_stays_bit_for_bit_while_the_rest_learns():
    _, before, after, rows = adapt(Freeze(**PLAIN, until="stage2.0"), task(), epochs=2)
    frozen = [n for n in before if n.startswith(("body.stem.", "body.stage1.", "body.stage2.0."))]
    rest = [n for n in before if n not in frozen and "num_batches" not in n]
    assert len(frozen) > 10
    assert all(torch.equal(before[name], after[name]) for name in frozen), "statistics of BatchNorm included"
    assert all(not torch.equal(before[name], after[name]) for name in rest)
    assert rows[-1]["loss"] < rows[0]["loss"]


def test_nothing_frozen_is_plain_fine_tuning():
    _, _, plain, _ = adapt(Full(**PLAIN), task(), epochs=1)
    _, _, null, _ = adapt(Freeze(**PLAIN, until=0), task(), epochs=1)
    assert all(torch.equal(plain[name], null[name]) for name in plain)


def test_a_share_counts_blocks_from_the_input():
    blocks = ["stem", "a", "b", "c"]
    assert lowest_blocks(blocks, 0.5) == ["stem", "a"]
    assert lowest_blocks(blocks, 1) == blocks
    assert lowest_blocks(blocks, 0.0) == []
    assert lowest_blocks(blocks, "b") == ["stem", "a", "b"]


def test_a_block_that_is_not_there_is_suggested():
    with pytest.raises(SettingsError, match=r"did you mean 'stage2\.0'") as caught:
        adapt(Freeze(until="stage20"), task(), epochs=1)
    assert "stem" in caught.value.hint


@pytest.mark.parametrize("until", [-0.1, 1.5])
def test_a_share_outside_of_its_range_is_refused(until):
    with pytest.raises(SettingsError, match="until"):
        build(Freeze, {"until": until}, "options")
