import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from effxfer.deploy.export.text_samples import (
    length_metadata,
    resize,
    text_samples,
    typical_lengths,
    unequal_texts,
)
from effxfer.runtime.rows import Ragged

TEXTS = st.lists(st.integers(1, 60), min_size=1, max_size=40)


def ragged(lengths) -> Ragged:
    return Ragged.of([np.arange(1, n + 1, dtype=np.int32) for n in lengths])


@given(TEXTS, st.sampled_from([1, 2, 7, 32]))
def test_a_batch_has_texts_of_unequal_lengths_wherever_a_text_has_two_tokens(lengths, count):
    chosen = unequal_texts(ragged(lengths), count)
    assert len(chosen) == count
    assert chosen.lengths.max() <= max(lengths)
    assert chosen.lengths.min() >= 1
    if count > 1 and max(lengths) > 1 and (len(set(lengths)) == 1 or count >= len(lengths)):
        assert len(set(chosen.lengths.tolist())) > 1


def test_a_batch_is_spread_over_all_lengths_and_a_single_text_is_the_median_one():
    rows = ragged(range(1, 100))
    assert unequal_texts(rows, 1).lengths.tolist() == [50]
    assert unequal_texts(rows, 2).lengths.tolist() == [25, 75]
    assert unequal_texts(rows, 7).lengths.tolist() == [8, 22, 36, 50, 64, 78, 92]


def test_every_length_is_there_once_and_none_is_longer_than_a_text_may_be():
    samples = text_samples(ragged([5, 3]), (1, 2), 20)
    assert {name: sample.lengths.tolist() for name, sample in samples.items() if name.startswith("length")} == {
        "length8": [8, 4],
        "length20": [20, 10],
    }
    assert list(text_samples(ragged([5]), (2,), 96)) == ["batch2", "length8", "length33", "length96"]


def test_a_resized_text_keeps_its_last_token():
    row = np.array([1, 7, 8, 2], np.int32)
    assert resize(row, 2).tolist() == [1, 2]
    assert resize(row, 8).tolist() == [1, 7, 8, 1, 7, 8, 1, 2]
    assert resize(row[:1], 3).tolist() == [1, 1, 1]


def test_a_file_states_the_median_and_the_95th_percentile_of_texts():
    rows = ragged(range(1, 101))
    assert typical_lengths(rows) == [51, 96]
    assert length_metadata(rows) == {"lengths": "[51, 96]"}
    assert (
        length_metadata(np.zeros((3, 2, 2, 3), np.uint8)) == length_metadata(ragged([])) == length_metadata(None) == {}
    )
