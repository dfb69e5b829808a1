"""Classes of texts beside tags of their words, from one file and from two."""

import json
from dataclasses import replace

import numpy as np
import pytest

from effxfer.data.history import NONE
from effxfer.data.labels.tasks import select_tasks
from effxfer.data.load import load, scan
from effxfer.data.loader import Loader
from effxfer.data.settings import DataSettings
from effxfer.data.several_tables.join_listings import join_listings
from effxfer.data.several_tables.join_tables import join_tables
from effxfer.data.texts.text_labels import count_lost_task_tags
from effxfer.errors import DataError, SettingsError
from effxfer.runtime.multi_task.task_labels import TaskLabels
from effxfer.runtime.outputs.tagging import UNLABELLED, TagLabels
from effxfer.settings import build
from effxfer.stages.data.split_history import next_history
from tests.data.templates import write_joint
from tests.runtime.text.tiny_tokenizers import tokens

KINDS = {"intent": "single", "slots": "tags"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_joint(tmp_path_factory.mktemp("joint") / "data", 60)


def joint(folder, **options) -> DataSettings:
    return build(DataSettings, {"source": str(folder / "joint.jsonl"), "labels": KINDS, **options}, "data")


def tables(folder, **options) -> list[DataSettings]:
    each = ({"source": "intent.csv"}, {"source": "slots.conll", "labels": "tags"})
    return [build(DataSettings, {**one, "source": str(folder / one["source"]), **options}, "data") for one in each]


def with_history(settings):
    """Settings, listing and history of each table."""
    history, rows = NONE, []
    for one in settings:
        rows.append((one, scan(one, history=history), history))
        history = next_history(history, rows[-1][1], in_time=False)
    return rows


def scan_tables(settings):
    return [listing for _, listing, _ in with_history(settings)]


def load_tables(settings, tmp_path, input):
    return [
        Loader(settings=one, cache=tmp_path, history=history, as_words=True).load(input, listing)
        for one, listing, history in with_history(settings)
    ]


def test_one_file_gives_each_text_its_class_and_its_tags(folder, tmp_path):
    task = load(joint(folder), replace(tokens(), size=64), cache=tmp_path)
    assert task.output.names == ("intent", "slots")
    assert task.classes[-5:] == tuple(f"slots/{tag}" for tag in ("B-LOC", "B-PER", "I-LOC", "I-PER", "O"))
    rows = [json.loads(line) for line in (folder / "joint.jsonl").read_text().splitlines()]
    tags, intents = task.output.outputs["slots"].classes, task.output.outputs["intent"].classes
    for split in (task.train, task.val, task.test):
        assert isinstance(split.labels, TaskLabels)
        for place, name in enumerate(split.names):
            row = rows[int(name.partition(":")[2]) - 1]
            numbers = split.labels.tags["slots"][place]
            assert [tags[number] for number in numbers[numbers != UNLABELLED]] == row["slots"]
            assert intents[int(split.labels.numbers[place, 0])] == row["intent"]
            assert split.decode_row(place) == row["text"]


def test_tags_of_words_behind_the_end_of_a_text_are_counted(folder, tmp_path):
    task = load(joint(folder), replace(tokens(), size=8), cache=tmp_path)
    (note,) = [note for note in task.notes if note.startswith("W358")]
    listing = scan(joint(folder))
    total = sum(len(json.loads(json.loads(item.label)[1])) for item in listing.items)
    left = sum(int((split.labels.tags["slots"] != UNLABELLED).sum()) for split in (task.train, task.val, task.test))
    assert sum(int(word) for word in note.replace(",", "").split() if word.isdigit()) == total - left > 0
    assert count_lost_task_tags(KINDS, task.test.labels[:0], []) == 0


def test_tables_of_the_same_texts_have_the_same_splits_in_either_order(folder):
    for settings in (tables(folder), tables(folder)[::-1]):
        first, second = scan_tables(settings)
        splits = [{item.path.rpartition(":")[0]: 0 for item in each.items} for each in (first, second)]
        assert all(splits)
        texts = [
            {"".join(each.texts[item.path]).replace(" ", ""): item.split for item in each.items}
            for each in (first, second)
        ]
        assert texts[0] == texts[1]


def test_a_text_of_words_in_another_split_of_another_table_is_a_leak(folder, tmp_path):
    lines = (folder / "intent.csv").read_text().splitlines()[1:]
    names = ("train", "val", "test")
    cut = [f"{line.replace(' .', '.')},{names[n % 3]}" for n, line in enumerate(lines)]
    (tmp_path / "cut.csv").write_text("\n".join(["text,label,split", *cut]))
    slots = tmp_path / "slots"
    slots.mkdir()
    blocks = (folder / "slots.conll").read_text().split("\n\n")
    for part, name in enumerate(("train", "dev", "test")):
        (slots / f"{name}.conll").write_text("\n\n".join(blocks[part * 20 : part * 20 + 20]))
    pair = [DataSettings(source=str(tmp_path / "cut.csv")), DataSettings(source=str(slots), labels="tags")]
    with pytest.raises(DataError, match=r"of another task and in .* of this one") as caught:
        scan_tables(pair)
    assert caught.value.code == "E320"
    allowed = [pair[0], pair[1].model_copy(update={"allow_leakage": True})]
    assert len(join_listings(scan_tables(allowed)).items) == 120


def test_two_tables_are_read_alike_and_come_apart_again(folder, tmp_path):
    input = replace(tokens(), size=64)
    parts = load_tables(tables(folder), tmp_path, input)
    task = join_tables(parts)
    assert task.output.names == ("intent", "slots")
    count = len(parts[0].train)
    assert isinstance(task.train.labels, TaskLabels)
    assert np.isnan(task.train.labels.numbers[count:]).all()
    assert (task.train.labels.tags["slots"][:count] == UNLABELLED).all()
    intents, slots = (select_tasks(task, (name,)) for name in task.output.names)
    np.testing.assert_array_equal(intents.train.labels, parts[0].train.labels)
    assert isinstance(slots.train.labels, TagLabels)
    width = parts[1].train.labels.tags.shape[1]
    np.testing.assert_array_equal(slots.train.labels.tags[:, :width], parts[1].train.labels.tags)
    # As one file and as two, texts are the same ids.
    whole = load(joint(folder), input, cache=tmp_path)
    rows = {tuple(row.tolist()) for split in (whole.train, whole.val, whole.test) for row in split.rows}
    assert {tuple(row.tolist()) for row in intents.train.rows} <= rows
    assert {tuple(row.tolist()) for row in slots.train.rows} <= rows
    again = task.loader.load(input)
    assert again.train.rows.values.tolist() == task.train.rows.values.tolist()


@pytest.mark.parametrize(("change", "code", "says"), [
    (lambda row, n: {**row, "slots": ["O"] * len(row["text"])}, "E312", "one tag in train: O"),
    (lambda row, n: {key: value for key, value in row.items() if key != "slots"}, "E348", "no label in train and val"),
    (lambda row, n: {**row, "slots": row["slots"][n % 9 == 0 :]}, "E342", "tags for"),
])  # fmt: skip
def test_tags_that_cannot_be_learned_are_refused(folder, tmp_path, change, code, says):
    rows = [json.loads(line) for line in (folder / "joint.jsonl").read_text().splitlines()]
    (tmp_path / "joint.jsonl").write_text("\n".join(json.dumps(change(row, n)) for n, row in enumerate(rows)))
    with pytest.raises(DataError, match=says) as caught:
        scan(joint(tmp_path))
    assert caught.value.code == code


def test_a_tag_that_train_lacks_is_named(folder, tmp_path):
    rows = [json.loads(line) for line in (folder / "joint.jsonl").read_text().splitlines()]
    for n, row in enumerate(rows):
        row["split"] = ("train", "val", "test")[n % 3]
        row["slots"] = ["B-ODD", *row["slots"][1:]] if n % 3 == 2 else row["slots"]
    (tmp_path / "joint.jsonl").write_text("\n".join(map(json.dumps, rows)))
    notes = scan(joint(tmp_path)).notes
    assert "W313 task 'slots': tags of test that train lacks: B-ODD" in notes


def test_pairs_beside_tags_are_refused(folder, tmp_path):
    lines = (folder / "intent.csv").read_text().splitlines()[1:]
    (tmp_path / "pairs.csv").write_text(
        "\n".join(["other,text,label", *(f"x{n},{line}" for n, line in enumerate(lines))])
    )
    pairs = DataSettings(source=str(tmp_path / "pairs.csv"), pair_column="other")
    with pytest.raises(SettingsError, match="pairs holds pairs of texts, and slots tags the words"):
        join_listings([scan(pairs), scan(tables(folder)[1])])
    with pytest.raises(SettingsError, match="'slots' tags the words of single texts"):
        joint(folder, pair_column="other")


def test_a_csv_table_separates_words_and_tags_by_blanks(folder, tmp_path):
    rows = [json.loads(line) for line in (folder / "joint.jsonl").read_text().splitlines()]
    lines = [f'"{" ".join(row["text"])}",{row["intent"]},{" ".join(row["slots"])}' for row in rows]
    (tmp_path / "joint.csv").write_text("\n".join(["text,intent,slots", *lines]))
    first, second = scan(joint(folder)), scan(joint(folder).model_copy(update={"source": str(tmp_path / "joint.csv")}))
    assert [item.label for item in first.items] == [item.label for item in second.items]
    assert list(first.texts.values()) == list(second.texts.values())
