import torch
from hypothesis import given
from hypothesis import strategies as st

from effxfer.prune.graph.union_find import UnionFind

PAIRS = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), max_size=15)


@given(PAIRS)
def test_what_is_tied_directly_or_by_others_is_one_class(pairs):
    ties = UnionFind()
    ids = ties.new_ids(12)
    if pairs:
        one, other = torch.tensor(pairs).T
        ties.tie(one, other, "")
    classes = [{number} for number in range(1, 13)]
    for a, b in pairs:
        merged = next(c for c in classes if a in c) | next(c for c in classes if b in c)
        classes = [c for c in classes if not c & merged] + [merged]
    expected = {number: min(found) for found in classes for number in found}
    assert ties.roots(ids).tolist() == [expected[number] for number in ids.tolist()]


def test_beside_what_is_no_channel_channels_stay():
    ties = UnionFind()
    ids = ties.new_ids(3)
    ties.tie(ids, torch.tensor([0, 3, 3]), "it is padded")
    assert ties.roots(ids).tolist() == [1, 2, 2]
    assert ties.pin_reasons() == {1: "it is padded"}


def test_a_class_stays_for_the_first_reason_that_says_something():
    ties = UnionFind()
    ids = ties.new_ids(2)
    for why in ("", "first", "second"):
        ties.pin(ids[1:], why)
    ties.tie(ids[:1], ids[1:], "")
    assert ties.pin_reasons() == {1: "first"}
    assert ties.mask(ids[:1]).tolist() == [False, True, False]
