import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from effxfer.data.batches.augment import Augment
from effxfer.data.batches.batches import Batches, make_batches, make_generator, seed_of
from effxfer.data.batches.buckets import padding_share
from effxfer.data.task import Split, Task
from effxfer.errors import SettingsError
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.runtime.outputs.single_label import SingleLabel
from effxfer.runtime.rows import Ragged
from tests.runtime.text.tiny_tokenizers import tokens

CPU = torch.device("cpu")
AS_THEY_ARE = Augment(crop="none", flip=False)
counts = st.integers(1, 60)
sizes = st.integers(1, 20)
seeds = st.integers(0, 2**62)
few = profile(max_examples=60, deadline=None)


def indices(count, size, seed) -> Batches:
    return Batches(count, size, lambda index, rng: (index, float(torch.rand(1, generator=rng))), seed)


def seen(batches: Batches) -> list[int]:
    return [i for index, _ in batches for i in index.tolist()]


@few
@given(counts, sizes, seeds)
def test_an_epoch_shows_each_example_at_most_once_in_whole_batches(count, size, seed):
    batches = indices(count, size, seed)
    shown = seen(batches)
    assert len(set(shown)) == len(shown)
    assert set(shown) <= set(range(count))
    assert len(batches) == max(1, count // size)
    assert all(len(index) == min(size, count) for index, _ in batches)


@few
@given(counts, sizes, seeds, st.data())
def test_a_batch_is_a_function_of_seed_and_step(count, size, seed, data):
    """So that training can resume at any step: nothing depends on the steps before."""
    batches = indices(count, size, seed)
    step = data.draw(st.integers(0, len(batches) - 1))
    whole = list(indices(count, size, seed))
    index, number = batches[step]
    assert torch.equal(index, whole[step][0])
    assert number == whole[step][1]


@few
@given(st.integers(8, 60), st.integers(4, 20), seeds, st.integers(1, 4))
def test_processes_share_every_batch_out_among_them(count, size, seed, world):
    whole = indices(count, size, seed)
    shards = [whole.shard(rank, world) for rank in range(world)]
    assert {len(shard) for shard in shards} == {len(whole)}
    for step in range(len(whole)):
        parts = [shard[step][0].tolist() for shard in shards]
        assert sorted(i for part in parts for i in part) == sorted(whole[step][0].tolist())
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    numbers = [shard[0][1] for shard in shards]
    assert len(set(numbers)) == world, "each process draws its own"
    if world == 1:
        assert numbers[0] == whole[0][1]


def test_epochs_differ_in_order():
    orders = {tuple(seen(indices(40, 8, seed_of(0, epoch)))) for epoch in range(5)}
    assert len(orders) == 5


@given(
    st.lists(st.integers() | st.text(max_size=3), max_size=3), st.lists(st.integers() | st.text(max_size=3), max_size=3)
)
def test_seeds_tell_their_parts_apart(one, other):
    assert (seed_of(*one) == seed_of(*other)) == (one == other)
    assert 0 <= seed_of(*one) < 2**63


def test_a_generator_begins_anew_each_time():
    assert torch.equal(torch.rand(3, generator=make_generator(1, "x")), torch.rand(3, generator=make_generator(1, "x")))
    assert not torch.equal(
        torch.rand(3, generator=make_generator(1, "x")), torch.rand(3, generator=make_generator(2, "x"))
    )


def task(count=20, size=8, canvas=12) -> Task:
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 3

    def split(side):
        shape = (count, size, size, 3)
        return Split(
            rows=np.full(shape, 10, np.uint8) + labels[:, None, None, None].astype(np.uint8),
            labels=labels.astype(np.int64),
            names=[f"{i}.png" for i in range(count)],
            canvas=rng.integers(100, 200, (count, side, side, 3), dtype=np.uint8) if side else None,
            aspect=np.linspace(0.5, 2, count, dtype=np.float32) if side else None,
        )

    pre = Preprocess(size=size, mean=(0, 0, 0), std=(1, 1, 1))
    return Task(
        name="t",
        output=SingleLabel(classes=("a", "b", "c")),
        train=split(canvas),
        val=split(0),
        test=split(0),
        input=pre,
        digest="d",
    )


@pytest.mark.parametrize(("crop", "uses_canvas"), [("resized", True), ("padded", False), ("none", False)])
def test_crops_come_from_the_canvas_where_they_change_the_size(crop, uses_canvas):
    epoch = make_batches(task(), 5, Augment(crop=crop, flip=False), CPU)(seed_of(1))
    inputs, labels = epoch[0]
    assert inputs.shape == (5, 3, 8, 8)
    bright = (inputs * 255).amax((1, 2, 3)) > 50
    assert bright.all() if uses_canvas else not bright.any()
    assert labels.dtype is torch.int64


def test_images_keep_their_labels():
    for inputs, labels in make_batches(task(), 4, Augment(crop="none"), CPU)(seed_of(2)):
        assert torch.equal((inputs[:, 0, 0, 0] * 255).round().long() - 10, labels)


def test_mixing_gives_soft_labels():
    _, labels = make_batches(task(), 5, Augment(mixup=0.4), CPU)(1)[0]
    assert labels.shape == (5, 3)


def test_examples_of_a_batch_can_be_named():
    given, epoch = task(), make_batches(task(), 5, Augment(crop="none"), CPU)(3)
    for step, (_, labels) in enumerate(epoch):
        assert [int(name.removesuffix(".png")) % 3 for name in epoch.names(step, given.train)] == labels.tolist()


def test_fewer_examples_than_a_batch_make_one():
    epoch = make_batches(task(count=3), 64, Augment(crop="none"), CPU)(0)
    assert len(epoch) == 1
    assert len(epoch[0][1]) == 3


def text_task(count: int = 203, seed: int = 0) -> Task:
    """Rows of 3 to 12 ids, of which the first is the row's number; a class has three quarters of them."""
    rng = np.random.default_rng(seed)
    rows = Ragged.of([np.full(rng.integers(3, 13), i, np.int32) for i in range(1, count + 1)])
    labels = (np.arange(count) % 4 == 0).astype(np.int64)
    split = Split(rows=rows, labels=labels, names=[str(i) for i in range(1, count + 1)])
    return Task(
        name="t", output=SingleLabel(classes=("a", "b")), train=split, val=split, test=split, input=tokens(), digest="d"
    )


@pytest.mark.parametrize("settings", [Augment(), AS_THEY_ARE])
def test_a_batch_of_texts_is_padded_to_its_longest_and_keeps_labels(settings):
    task = text_task()
    batches = make_batches(task, 8, settings, CPU)(0)
    assert len(batches) == 25
    for ids, labels in batches:
        numbers = ids[:, 0] - 1
        lengths = torch.from_numpy(task.train.rows.lengths)[numbers]
        assert ids.dtype == torch.int64
        assert ids.shape == (8, int(lengths.max()))
        assert torch.equal((ids != task.input.pad).sum(1), lengths)
        assert torch.equal(labels, torch.from_numpy(task.train.labels)[numbers])


def test_texts_of_like_length_share_a_batch_and_every_text_is_shown():
    task = text_task(2000)
    batches = [ids[:, 0].numpy() - 1 for ids, _ in make_batches(task, 16, Augment(), CPU)(0)]
    assert sorted(np.concatenate(batches).tolist()) == list(range(2000))
    assert padding_share(task.train.rows.lengths, batches) < 0.03
    lengths = [task.train.rows.lengths[batch].mean() for batch in batches]
    assert abs(np.corrcoef(np.arange(len(lengths)), lengths)[0, 1]) < 0.3, "batches of all lengths follow one another"


def test_batches_of_texts_are_a_function_of_seed_and_step():
    draw = make_batches(text_task(), 8, Augment(), CPU)
    whole = list(draw(3))
    assert all(torch.equal(draw(3)[step][0], whole[step][0]) for step in (0, 7, 24))
    assert [ids[0, 0].item() for ids, _ in draw(4)] != [ids[0, 0].item() for ids, _ in whole]


def test_rare_classes_of_texts_are_shown_more_often():
    plain, even = (
        torch.cat([labels for _, labels in make_batches(text_task(), 8, Augment(), CPU, balance)(0)]).float().mean()
        for balance in (0.0, 1.0)
    )
    assert float(plain) == pytest.approx(0.25, abs=0.02)
    assert float(even) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("option", [{"mixup": 0.2}, {"cutmix": 1.0}, {"colour": 0.4}, {"flip": False}])
def test_texts_have_no_augmentation(option):
    with pytest.raises(SettingsError, match="augment has no effect on texts"):
        make_batches(text_task(), 8, Augment(**option), CPU)


def test_few_texts_are_one_batch():
    (batch,) = make_batches(text_task(5), 8, Augment(), CPU)(0)
    assert sorted(batch[0][:, 0].tolist()) == [1, 2, 3, 4, 5]
