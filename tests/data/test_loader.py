"""A task, loaded again for other preprocessing, with progress that counts every image once."""

from contextlib import contextmanager

import pytest

from effxfer.data.loader import Loader
from effxfer.data.settings import DataSettings
from effxfer.progress import show_through
from effxfer.runtime.images.preprocess import Preprocess
from tests.data.corpus import class_folders


@pytest.fixture
def bars():
    """Label, total and steps of every progress bar."""
    opened = []

    @contextmanager
    def sink(label, total):
        steps = []
        opened.append((label, total, steps))
        yield lambda count, _text: steps.append(count)

    with show_through(sink):
        yield opened


def loader(tmp_path, **options):
    source = class_folders(tmp_path / "photos", {"cat": 12, "dog": 15})
    return Loader(settings=DataSettings(source=str(source), **options), cache=tmp_path / "cache")


def test_a_task_is_loaded_again_at_another_size_with_the_same_splits(tmp_path):
    small = loader(tmp_path).load(Preprocess(size=16))
    large = small.loader.load(Preprocess(size=24))
    assert (small.train.rows.shape[1], large.train.rows.shape[1]) == (16, 24)
    assert list(small.train.names) == list(large.train.names)


def test_the_bar_counts_every_image_once_and_a_second_load_decodes_nothing(tmp_path, bars):
    source = loader(tmp_path)
    source.load(Preprocess(size=16))
    assert [(label, total, sum(steps)) for label, total, steps in bars] == [("decode photos", 27, 27)]
    source.load(Preprocess(size=16))
    assert len(bars) == 1


def test_the_images_of_a_target_have_a_bar_of_their_own(tmp_path, bars):
    target = class_folders(tmp_path / "other", {"cat": 9, "dog": 8}, seed=1000)
    loader(tmp_path, target=DataSettings(source=str(target))).load(Preprocess(size=16))
    assert [(total, sum(steps)) for _, total, steps in bars] == [(27, 27), (17, 17)]
