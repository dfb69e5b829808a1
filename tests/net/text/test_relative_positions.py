import pytest
import torch

from effxfer.net.text.relative_positions import RelativePositions


def test_near_tokens_have_buckets_of_their_own_by_direction():
    relative = RelativePositions(32, 2, 20)
    middle = len(relative.buckets) // 2
    near = relative.buckets[middle - 7 : middle + 8].tolist()
    assert near == [7, 6, 5, 4, 3, 2, 1, 0, 17, 18, 19, 20, 21, 22, 23]


def test_far_tokens_share_the_last_bucket_of_their_direction():
    relative = RelativePositions(32, 2, 400)
    assert set(relative.buckets[:250].tolist()) == {15}
    assert set(relative.buckets[-250:].tolist()) == {31}


@pytest.mark.parametrize("length", [1, 2, 20])
def test_the_bias_depends_on_the_distance_alone(length):
    bias = RelativePositions(32, 3, 20)(length)
    assert bias.shape == (1, 3, length, length)
    assert torch.equal(bias[..., 1:, 1:], bias[..., :-1, :-1])


def test_buckets_are_not_stored_with_the_weights():
    assert list(RelativePositions(32, 3, 20).state_dict()) == ["bias.weight"]
