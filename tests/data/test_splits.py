from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effxfer.data.listing import Item
from effxfer.data.settings import DataSettings
from effxfer.data.splits import assign, largest_remainder


def items(counts, split="", domain=""):
    return [
        Item(f"{split}/{domain}/{label}/{n}", label, split, domain, f"{split}{domain}{label}{n}")
        for label, count in counts.items()
        for n in range(count)
    ]


def options(**given_options):
    return DataSettings(source="x", **given_options)


def sizes(assigned):
    return Counter(item.split for item in assigned.items)


counts_of_classes = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 40), min_size=1)


@settings(deadline=None)
@given(counts_of_classes, st.integers(0, 99), st.randoms())
def test_assignment_is_complete_stratified_and_independent_of_order(counts, seed, random):
    members = items(counts)
    done = assign(members, options(split_seed=seed)).items
    random.shuffle(members)
    assert {i.path: i.split for i in assign(members, options(split_seed=seed)).items} == {i.path: i.split for i in done}
    assert sorted(i.path for i in done) == sorted(i.path for i in members)
    for label, count in counts.items():
        got = Counter(i.split for i in done if i.label == label)
        assert got["train"] >= 1
        assert set(got) == set(("train", "val", "test")[:count])
        assert abs(got["val"] - 0.1 * count) <= 1
        assert abs(got["test"] - 0.1 * count) <= 1


@settings(deadline=None)
@given(counts_of_classes, st.lists(st.integers(0, 9), min_size=1))
def test_equal_contents_share_a_split(counts, contents):
    members = [i._replace(sha256=str(contents[n % len(contents)])) for n, i in enumerate(items(counts))]
    by_content = {}
    for item in assign(members, options()).items:
        assert by_content.setdefault(item.sha256, item.split) == item.split


@given(st.integers(0, 200), st.floats(0.05, 0.45), st.floats(0.05, 0.45))
def test_shares_add_up(count, val, test):
    shares = largest_remainder(count, {"train": 1 - val - test, "val": val, "test": test})
    assert sum(shares.values()) == count
    assert sum(share > 0 for share in shares.values()) == min(3, count)


def test_seed_changes_the_split():
    members = items({"a": 50, "b": 50})
    tests = [{i.path for i in assign(members, options(split_seed=s)).items if i.split == "test"} for s in (0, 1)]
    assert tests[0] != tests[1]
    assert len(tests[0]) == len(tests[1]) == 10


def test_given_splits_are_kept():
    members = items({"a": 3}, "train") + items({"a": 2}, "val") + items({"a": 1}, "test")
    done = assign(members, options())
    assert done.items == members
    assert not done.findings


def test_val_without_test_is_cut_in_half_whatever_the_seed():
    members = items({"a": 20, "b": 20}, "train") + items({"a": 10, "b": 6}, "val")
    done = assign(members, options(split_seed=5))
    assert sizes(done) == {"train": 40, "val": 8, "test": 8}
    assert Counter(i.label for i in done.items if i.split == "val") == {"a": 5, "b": 3}
    assert "val was cut in half with seed 0" in done.findings[0].text
    assert done.items == assign(members, options()).items


def test_test_without_val_takes_val_from_train():
    members = items({"a": 20, "b": 20}, "train") + items({"a": 5, "b": 5}, "test")
    done = assign(members, options(val_fraction=0.25))
    assert sizes(done) == {"train": 30, "val": 10, "test": 10}
    assert "taken from train" in done.findings[0].text


def test_only_train_is_cut_in_three():
    done = assign(items({"a": 20, "b": 20}, "train"), options(test_fraction=0.2))
    assert sizes(done) == {"train": 28, "val": 4, "test": 8}


def test_domains_are_spread_evenly():
    members = items({"a": 40}, domain="photo") + items({"a": 40}, domain="sketch")
    done = assign(members, options())
    assert Counter(i.domain for i in done.items if i.split == "test") == {"photo": 4, "sketch": 4}


def test_class_with_one_image_cannot_be_split():
    findings = assign(items({"a": 9, "b": 1}), options()).findings
    assert [(f.code, f.path) for f in findings] == [("W339", ""), ("E313", "//b/0")]


def test_class_with_two_images_has_no_test():
    findings = assign(items({"a": 9, "b": 2}), options()).findings
    assert [f.code for f in findings] == ["W339", "W313"]
    assert "none in test" in findings[1].text


@pytest.mark.parametrize("limit", [1, 4, 100])
def test_few_labels_touch_only_the_training_split(limit):
    members = items({"a": 30, "b": 50})
    full, few = assign(members, options()), assign(members, options(max_per_class=limit))
    assert [i for i in few.items if i.split != "train"] == [i for i in full.items if i.split != "train"]
    got = Counter(i.label for i in few.items if i.split == "train")
    assert got == {"a": min(limit, 24), "b": min(limit, 40)}


def test_fewer_labels_are_a_subset_of_more():
    members = items({"a": 30, "b": 50})
    few, more = ({i.path for i in assign(members, options(max_per_class=k)).items} for k in (3, 8))
    assert few < more


def valued(count, first="{}"):
    return [Item(f"{n}.jpg", f"{first.format(n)} 1", sha256=f"s{n}") for n in range(count)]


def flagged(labels):
    return [Item(f"{n}.jpg", label, sha256=f"s{n}") for n, label in enumerate(labels)]


def test_every_tenth_of_values_is_in_every_split():
    done = assign(valued(200), options(labels="value"))
    assert sizes(done) == {"train": 160, "val": 20, "test": 20}
    for split, each in (("train", 16), ("val", 2), ("test", 2)):
        numbers = [int(item.label.split()[0]) for item in done.items if item.split == split]
        assert Counter(number // 20 for number in numbers) == dict.fromkeys(range(10), each)
    (note,) = done.findings
    assert note.text.endswith("with seed 0, by tenths of the first value (train 160, val 20, test 20)")


@settings(deadline=None)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=60), st.randoms())
def test_splits_of_values_do_not_depend_on_the_order_of_rows(numbers, random):
    members = [item._replace(label=f"{number}") for item, number in zip(valued(len(numbers)), numbers, strict=True)]
    done = {item.path: item.split for item in assign(members, options(labels="value")).items}
    random.shuffle(members)
    assert {item.path: item.split for item in assign(members, options(labels="value")).items} == done
    assert set(done.values()) == set(("train", "val", "test")[: len(numbers)])


def test_a_new_value_goes_by_its_digest_whatever_comes_after_it():
    before = {item.path: item.split for item in assign(valued(50), options(labels="value")).items}

    def after(count):
        done = assign(valued(count), options(labels="value"), lambda item: before.get(item.path, ""))
        return {item.path: item.split for item in done.items}

    assert after(60).items() <= after(200).items()
    assert before.items() <= after(60).items()


def test_rare_labels_are_in_every_split_that_they_can_be_in():
    labels = ["1000"] * 300 + ["0100", "0010", "0010", "0001", "0001", "0001"]
    for seed in range(20):
        done = assign(flagged(labels), options(labels="multi", split_seed=seed))
        places = {label: sorted(item.split for item in done.items if item.label == label) for label in labels[300:]}
        assert places == {"0100": ["train"], "0010": ["train", "val"], "0001": ["test", "train", "val"]}
        assert sizes(done)["val"] == pytest.approx(30, abs=3)
    assert "by content" in done.findings[0].text


@settings(deadline=None)
@given(st.lists(st.text("01?", min_size=3, max_size=3), min_size=3, max_size=40), st.randoms())
def test_splits_of_labels_do_not_depend_on_the_order_of_rows(labels, random):
    members = flagged(labels)
    done = {item.path: item.split for item in assign(members, options(labels="multi")).items}
    random.shuffle(members)
    assert {item.path: item.split for item in assign(members, options(labels="multi")).items} == done
    assert set(done.values()) >= {"train", "val"}


def test_no_label_moves_an_image_of_an_earlier_stage():
    members = flagged(["10"] * 20 + ["01"] * 4)
    done = assign(members, options(labels="multi"), lambda item: "train" if item.label == "01" else "")
    assert {item.split for item in done.items if item.label == "01"} == {"train"}


@pytest.mark.parametrize("kind", ["multi", "value"])
def test_equal_contents_with_other_labels_share_a_split(kind):
    labels = ["100", "010", "001"] if kind == "multi" else ["1", "500", "1000"]
    members = [Item(f"{n}", labels[n % 3], sha256=f"s{n // 3}") for n in range(90)]
    by_content = {}
    for item in assign(members, options(labels=kind)).items:
        assert by_content.setdefault(item.sha256, item.split) == item.split
