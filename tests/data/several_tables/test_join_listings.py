"""Several tables as one listing: names, columns and what is refused."""

import json

import pytest

from effxfer.data.listing import Item, Listing
from effxfer.data.several_tables.join_listings import columns_of, join_listings
from effxfer.errors import SettingsError


def listing(name, labels="single", classes=("a", "b"), **more):
    items = tuple(
        Item(path=f"{n}.png", label=label, split="train", sha256=f"{name}{n}") for n, label in enumerate(classes)
    )
    return Listing(name=name, root=None, classes=classes, items=items, findings=(), notes=(), digest=name,
                   labels=labels, **more)  # fmt: skip


def test_an_example_has_the_labels_of_its_own_table_alone():
    two = Listing(
        name="pairs", root=None, classes=("x/1", "x/2", "y/y"), findings=(), notes=(), digest="pairs", labels="tasks",
        items=(Item("p.png", json.dumps(["1", "0.5"]), "val"),), tasks={"x": "single", "y": "value"},
    )  # fmt: skip
    joined = join_listings([listing("photo"), two])
    assert joined.tasks == {"photo": "single", "x": "single", "y": "value"}
    assert joined.classes == ("photo/a", "photo/b", "x/1", "x/2", "y/y")
    assert [(item.path, json.loads(item.label)) for item in joined.items] == [
        ("photo/0.png", ["a", "", ""]), ("photo/1.png", ["b", "", ""]), ("pairs/p.png", ["", "1", "0.5"]),
    ]  # fmt: skip
    assert [len(joined.split(name)) for name in ("train", "val")] == [2, 1]
    assert joined.key != join_listings([two, listing("photo")]).key, "the order of the outputs is part of the result"
    assert columns_of(listing("photo")) == ("photo/a", "photo/b")


@pytest.mark.parametrize(("tables", "says"), [
    ([listing("a"), listing("a")], "E220 two tasks are called 'a'"),
    ([listing("a"), listing("b", "span")], "b has labels of kind 'span', and a task beside others"),
    ([listing("a"), listing("b", target=listing("t"))], "b has a target, beside another table"),
    ([listing("a"), listing("b", unlabelled=(Item("u.png", ""),))], "b has examples without labels"),
    ([listing("a"), listing("logits")], "cannot be called 'logits'"),
    ([listing("a"), listing("b/c")], "cannot be called 'b/c'"),
])  # fmt: skip
def test_what_cannot_be_tasks_of_one_network_is_refused(tables, says):
    with pytest.raises(SettingsError) as caught:
        join_listings(tables)
    assert says in f"{caught.value.code or ''} {caught.value}".strip()
