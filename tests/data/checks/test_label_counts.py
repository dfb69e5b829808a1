from effxfer.data.checks.audit import audit
from tests.data.label_tables import AGE, FLAGS, TAGS, VALUES, labelled_images, settings_of, tags_of

SPLITS = ["train"] * 12 + ["val"] * 6 + ["test"] * 2
PLACES = {"train": range(12), "val": range(12, 18), "test": range(18, 20)}


def report(tmp_path, kind, changes=None):
    table = labelled_images(tmp_path, 20, changes, SPLITS)
    audited = audit(settings_of(table, kind), cache=tmp_path / "cache")
    assert [f.text for f in audited.errors] == []
    return audited.report


def counts(applies):
    return {split: sum(map(applies, places)) for split, places in PLACES.items()}


def test_names_are_counted_by_split(tmp_path):
    result = report(tmp_path, TAGS)
    (table,) = result.tables
    assert table.title == "images by label"
    assert table.rows == tuple(
        {"label": name} | counts(lambda n, name=name: name in tags_of(n).split("|")) for name in ("beach", "dog")
    )
    assert result["labels"].value == 2
    assert result["labels per image"].value == (6 + 4) / 12
    assert not {"classes", "imbalance"} & {row.name for row in result.rows}


def test_unknown_labels_are_counted_by_split(tmp_path):
    (table,) = report(tmp_path, FLAGS).tables
    unknown = {f"{split} unknown": count for split, count in counts(lambda n: n % 5 == 0).items()}
    dog, sea = table.rows
    assert dog == {"label": "dog"} | counts(lambda n: n % 3 == 2 and n % 5 > 0) | unknown
    assert sea == {"label": "sea"} | counts(lambda n: n % 2) | dict.fromkeys(unknown, 0)


def test_values_are_described_by_split(tmp_path):
    result = report(tmp_path, VALUES)
    (table,) = result.tables
    assert table.title == "values by split"
    assert [(row["value"], row["split"]) for row in table.rows] == [
        (value, split) for value in ("weight", "age") for split in PLACES
    ]
    weight, _, _, age, *_ = table.rows
    assert weight == {"value": "weight", "split": "train", "min": 1 / 8, "median": 6 / 8, "max": 11 / 8, "unknown": 3}
    assert age == {"value": "age", "split": "train", "min": 0, "median": 5.5, "max": 11, "unknown": 0}
    assert result["values"].value == 2


def test_a_split_of_which_no_value_is_known_has_no_median(tmp_path):
    result = report(tmp_path, VALUES, {n: {"weight": ""} for n in PLACES["test"]})
    (row,) = [row for row in result.tables[0].rows if (row["value"], row["split"]) == ("weight", "test")]
    assert row == {"value": "weight", "split": "test", "min": "", "median": "", "max": "", "unknown": 2}
    assert "weight" in str(result)


def test_one_value_in_label_column_is_described(tmp_path):
    assert {row["value"] for row in report(tmp_path, AGE).tables[0].rows} == {"age"}
