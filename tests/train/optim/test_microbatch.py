"""Batches in parts."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from effxfer.train.optim.microbatch import split


@given(st.integers(1, 40), st.integers(1, 16))
def test_parts_are_the_whole_in_order(examples, count):
    x, y = torch.arange(examples), torch.arange(examples) * 2
    parts = split(((x, {"y": y}), [x]), count)
    assert len(parts) <= min(count, examples)
    assert abs(sum(share for share, _ in parts) - 1) < 1e-9
    assert torch.equal(torch.cat([part[0][0] for _, part in parts]), x)
    assert torch.equal(torch.cat([part[0][1]["y"] for _, part in parts]), y)
    assert all(torch.equal(part[1][0], part[0][0]) for _, part in parts)


def test_a_whole_batch_is_left_alone():
    assert split("anything", 1) == [(1.0, "anything")]
