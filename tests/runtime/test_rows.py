import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effxfer.runtime.rows import Ragged, concat_rows, map_batches

LISTS = st.lists(st.lists(st.integers(-5, 5), max_size=6), max_size=8)


def ragged(lists) -> Ragged:
    return Ragged.of([np.array(row, np.int32) for row in lists])


def plain(rows: Ragged) -> list[list[int]]:
    return [row.tolist() for row in rows]


@given(LISTS)
def test_rows_come_back_as_they_were(lists):
    rows = ragged(lists)
    assert plain(rows) == lists
    assert len(rows) == len(lists)
    assert rows.lengths.tolist() == [len(row) for row in lists]
    assert [rows.row(i - len(lists)).tolist() for i in range(len(lists))] == lists


@given(LISTS, st.slices(8))
def test_a_slice_selects_as_it_does_in_a_list(lists, piece):
    assert plain(ragged(lists)[piece]) == lists[piece]


@given(LISTS, st.data())
def test_indices_select_rows_in_their_order(lists, data):
    places = st.lists(st.integers(-len(lists), len(lists) - 1), max_size=10) if lists else st.just([])
    indices = data.draw(places)
    chosen = ragged(lists)[np.array(indices, np.int64)]
    assert plain(chosen) == [lists[i] for i in indices]
    assert plain(ragged(lists)[indices]) == plain(chosen)
    assert not np.shares_memory(chosen.values, ragged(lists).values)


@given(LISTS, st.data())
def test_a_mask_selects_where_it_is_true(lists, data):
    mask = data.draw(st.lists(st.booleans(), min_size=len(lists), max_size=len(lists)))
    chosen = ragged(lists)[np.array(mask, bool)]
    assert plain(chosen) == [row for row, take in zip(lists, mask, strict=True) if take]


@given(LISTS, st.slices(8), st.slices(8))
def test_a_selection_of_a_selection_is_one_too(lists, first, second):
    assert plain(ragged(lists)[first][second]) == lists[first][second]


@given(LISTS, st.slices(8))
def test_padded_rows_hold_each_row_and_then_the_fill(lists, piece):
    lists, out = lists[piece], ragged(lists)[piece].pad(9)
    longest = max(map(len, lists), default=0)
    assert out.shape == (len(lists), longest)
    assert out.dtype == np.int32
    assert out.tolist() == [row + [9] * (longest - len(row)) for row in lists]


def test_rows_of_pairs_are_padded_in_their_first_dimension():
    rows = Ragged.of([np.ones((2, 2)), np.ones((1, 2))])
    assert rows.pad(0)[:, :, 0].tolist() == [[1, 1], [1, 0]]


def test_a_slice_is_a_view_of_the_values():
    rows = ragged([[1, 2], [3], [4, 5]])
    assert np.shares_memory(rows[1:].values, rows.values)
    assert rows[1:].ends.tolist() == [1, 3]


def test_a_single_number_and_a_row_that_is_not_there_are_refused():
    rows = ragged([[1], [2]])
    with pytest.raises(IndexError, match="call row"):
        rows[0]
    with pytest.raises(IndexError):
        rows.row(2)
    with pytest.raises(IndexError):
        rows[np.array([2])]


@pytest.mark.parametrize("ends", [[3], [-1, 2], [2, 1], [0.5]])
def test_ends_that_do_not_fit_are_refused(ends):
    with pytest.raises(ValueError, match="ends are"):
        Ragged(np.zeros(2), np.array(ends, np.int64 if isinstance(ends[0], int) else float))


@given(st.lists(LISTS, min_size=1, max_size=4))
def test_rows_are_joined_end_to_end(parts):
    joined = concat_rows([ragged(lists)[:] for lists in parts])
    assert plain(joined) == [row for lists in parts for row in lists]


def test_selected_rows_and_arrays_are_joined():
    rows = ragged([[1], [2, 3], [], [4]])
    assert plain(concat_rows([rows[2:], rows[[1, 0]]])) == [[], [4], [2, 3], [1]]
    assert concat_rows([np.zeros((2, 3)), np.ones((1, 3))]).shape == (3, 3)


@given(LISTS, st.integers(1, 4))
def test_batches_are_sorted_by_length_and_results_are_in_the_order_of_the_rows(lists, batch):
    seen = []

    def run(chunk):
        seen.extend(chunk.lengths.tolist())
        assert len(chunk) <= batch
        return np.array([[len(row), row.sum()] for row in chunk], np.float32)

    results = map_batches(ragged(lists), batch, run, 2)
    assert results.tolist() == [[len(row), sum(row)] for row in lists]
    assert seen == sorted(seen)


def test_equal_rows_are_run_in_their_order():
    rows, seen = np.arange(5)[:, None], []
    results = map_batches(rows, 2, lambda chunk: seen.append(chunk.tolist()) or chunk.astype(np.float32), 1)
    assert seen == [[[0], [1]], [[2], [3]], [[4]]]
    assert results.tolist() == [[0], [1], [2], [3], [4]]
    assert map_batches(rows[:0], 2, lambda chunk: chunk, 7).shape == (0, 7)
