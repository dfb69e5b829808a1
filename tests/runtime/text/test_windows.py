import itertools

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from effxfer.runtime.text.errors import TextError
from effxfer.runtime.text.windows import cut_lengths, windows

LENGTHS = st.one_of(st.tuples(st.integers(0, 40)), st.tuples(st.integers(0, 40), st.integers(0, 40)))


@given(LENGTHS, st.integers(2, 30))
def test_fields_are_cut_only_if_they_have_to_be_and_fill_the_room(lengths, room):
    used = cut_lengths(lengths, room)
    assert sum(used) == min(sum(lengths), room)
    assert all(0 <= new <= old for new, old in zip(used, lengths, strict=True))
    longest = max(used)
    assert all(new == old or new >= longest - 1 for new, old in zip(used, lengths, strict=True))


@given(LENGTHS, st.integers(4, 30), st.integers(1, 14))
def test_windows_cover_the_last_field_and_share_the_stride(lengths, room, stride):
    assume(stride < room // len(lengths))
    cuts = windows(lengths, room, stride)
    last = [window.spans[-1] for window in cuts]
    assert sorted({i for start, end in last for i in range(start, end)}) == list(range(lengths[-1]))
    assert all(sum(end - start for start, end in window.spans) <= room for window in cuts)
    assert [(a[1] - b[0]) for a, b in itertools.pairwise(last)] == [stride] * (len(last) - 1)
    assert len({window.spans[:-1] for window in cuts}) == 1
    assert len(cuts) == 1 or last[-1][0] < last[-2][1] < last[-1][1]


def test_a_text_that_fits_is_one_window():
    assert windows((3, 4), 7, 2)[0].spans == ((0, 3), (0, 4))
    assert len(windows((3, 4), 7, 2)) == 1


def test_the_first_field_takes_half_of_the_room_at_most():
    assert [window.spans for window in windows((9, 4), 6, 1)] == [((0, 3), (0, 3)), ((0, 3), (2, 4))]


def test_a_stride_that_leaves_nothing_new_is_refused():
    with pytest.raises(TextError, match="E218 a stride of 3 tokens in windows of 3"):
        windows((9, 9), 6, 3)
