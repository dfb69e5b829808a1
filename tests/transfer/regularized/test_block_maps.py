from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from effxfer.net.edits import apply_edit
from effxfer.net.taps import capture_taps
from effxfer.prune.channels.remove import remove_channels
from effxfer.transfer.fine_tuning.full import Full
from effxfer.transfer.regularized.block_maps import block_ends, compose_kept, kept_channels, map_distance
from effxfer.transfer.regularized.distill import blend_teacher_loss, frozen_copy
from tests.transfer.tasks import adapt, body, task

PLAIN = {"batch": 12, "augment": {"crop": "none", "flip": False}}


def with_head(seed=0):
    net = body(seed)
    apply_edit(net, "set_head", spec={"kind": "linear"}, features=16, classes=["a", "b"])
    return net.eval()


def pruned(net, ratio=0.5):
    smaller = deepcopy(net)
    return smaller, remove_channels(smaller, ratio=ratio).kept_outputs


def outputs(net, names, images=None):
    with torch.no_grad(), capture_taps(net.body, names) as maps:
        net(torch.zeros(2, 3, 16, 16) if images is None else images)
    return maps


@given(st.floats(0.1, 10))
@settings(max_examples=20)
def test_no_distance_from_oneself_and_the_same_at_any_scale(scale):
    first, second = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3)
    assert map_distance(first, first, None).item() == 0
    distance = map_distance(first, second, None)
    torch.testing.assert_close(map_distance(scale * first, scale * second, None), distance, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("shape", [(2, 6, 4, 4), (2, 5, 6), (2, 6)])
def test_kept_channels_are_compared_with_those_of_the_teacher(shape):
    teacher, kept = torch.randn(shape), [1, 4]
    axis = -1 if len(shape) == 3 else 1
    student = teacher.index_select(axis, torch.tensor(kept))
    assert map_distance(student, teacher, kept).item() == 0
    assert map_distance(student, teacher, [1, 5]).item() > 0
    assert map_distance(student, teacher, None) is None, "not the same channels"


def test_maps_of_smaller_images_are_compared_with_averages():
    teacher = torch.ones(2, 3, 8, 8)
    assert map_distance(torch.ones(2, 3, 4, 4), teacher, None).item() == 0


def test_a_pruned_network_is_compared_where_its_channels_were():
    dense = with_head()
    smaller, kept = pruned(dense)
    channels = kept_channels(smaller, kept)
    assert set(channels) == set(block_ends(dense))
    widths = {name: maps.shape[1] for name, maps in outputs(smaller, list(channels)).items()}
    assert all(len(positions) == widths[name] for name, positions in channels.items())
    # In two steps as in one: positions stay those in the unpruned network.
    half, first = pruned(dense, 0.25)
    quarter, second = pruned(half, 0.34)
    twice = kept_channels(quarter, compose_kept(first, second))
    wide = outputs(dense, list(twice))
    for name, maps in outputs(quarter, list(twice)).items():
        assert map_distance(maps, wide[name], twice[name]) is not None


def test_a_removed_block_has_no_end():
    net = with_head()
    apply_edit(net, "remove_blocks", names=["body.stage2.1"])
    assert "stage2.1" in block_ends(net)
    assert "stage2.1" not in kept_channels(net, {})


def test_a_pruned_network_ends_nearer_to_the_maps_of_its_teacher():
    """The claim, against the null setting: with maps, the maps of a pruned network end nearer to the teacher's."""
    stripes = task()
    teacher, *_ = adapt(Full(**PLAIN), stripes, epochs=3)
    teacher.eval()
    smaller, kept = pruned(teacher)
    channels = kept_channels(smaller, kept)
    loss = blend_teacher_loss(
        Full(**PLAIN).loss, frozen_copy(teacher), logits=0.0, size=16, maps=3.0, channels=channels
    )
    taught, *_, rows = adapt(Full(**PLAIN), stripes, net=deepcopy(smaller), loss=loss, epochs=6)
    alone, *_ = adapt(Full(**PLAIN), stripes, net=smaller, epochs=6)
    assert rows[-1]["maps"] < rows[0]["maps"]
    images = torch.from_numpy(stripes.test.rows).permute(0, 3, 1, 2) / 63.75 - 2
    wide = outputs(teacher, list(channels), images)

    def far(net):
        maps = outputs(net.eval(), list(channels), images)
        return sum(map_distance(maps[name], wide[name], channels[name]).item() for name in channels)

    assert far(taught) < 0.8 * far(alone)
