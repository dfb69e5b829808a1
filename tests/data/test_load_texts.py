import json
from dataclasses import replace

import numpy as np
import pytest

from effxfer.data.batches.collate import label_tensor
from effxfer.data.history import History
from effxfer.data.load import load, scan, survey
from effxfer.data.loader import Loader
from effxfer.data.settings import DataSettings
from effxfer.data.target import concat_splits
from effxfer.data.task import subset
from effxfer.errors import DataError, SettingsError
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.runtime.outputs.multi_label import MultiLabel
from effxfer.runtime.outputs.regression import Regression
from effxfer.runtime.outputs.single_label import SingleLabel
from effxfer.runtime.rows import Ragged
from effxfer.runtime.text.pattern import PAIR
from effxfer.runtime.text.tokens import Tokens
from effxfer.settings import build
from tests.data.corpus import class_folders
from tests.data.text_files import texts, write_lines, write_table
from tests.runtime.text.tiny_tokenizers import WHOLE_WORDS, tokens


@pytest.fixture
def file(tmp_path):
    return write_lines(tmp_path / "reviews.txt", texts(30))


def load_task(source, tmp_path, input=None, **options):
    return load(DataSettings(source=str(source), **options), input or tokens(), cache=tmp_path / "cache")


def codes(listing) -> list[tuple[str, str]]:
    return [(finding.code, finding.severity) for finding in listing.findings]


def test_a_task_has_the_ids_and_the_class_of_every_text(file, tmp_path):
    task = load_task(file, tmp_path)
    assert (task.name, task.classes, task.input) == ("reviews", ("bad", "good"), tokens())
    assert [len(split) for split in (task.train, task.val, task.test)] == [48, 6, 6]
    lines = dict(enumerate(texts(30), 1))
    for split in (task.train, task.val, task.test):
        assert isinstance(split.rows, Ragged)
        for row, label, name in zip(split.rows, split.labels, split.names, strict=True):
            text, expected = lines[int(name.removeprefix("reviews.txt:"))]
            assert row.tolist() == tokens().decode(text).tolist()
            assert task.classes[label] == expected
    assert [int(name.partition(":")[2]) for name in task.train.names] == sorted(
        int(name.partition(":")[2]) for name in task.train.names
    )


def test_rows_are_mapped_from_the_cache(file, tmp_path):
    load_task(file, tmp_path)
    rows = load_task(file, tmp_path).train.rows
    assert isinstance(rows.values.base, np.memmap)


def test_files_of_a_pattern_keep_their_splits(tmp_path):
    rows = texts(10)
    for name, part in (("train", rows[:12]), ("dev", rows[12:16]), ("test", rows[16:])):
        write_lines(tmp_path / f"sst2.{name}", part)
    task = load_task(tmp_path / "sst2.*", tmp_path)
    assert task.name == "sst2"
    assert [len(split) for split in (task.train, task.val, task.test)] == [12, 4, 4]
    assert load_task(tmp_path / "sst2.*", tmp_path / "again").digest == task.digest


def test_the_digest_is_of_texts_labels_and_splits_and_not_of_the_tokenizer(file, tmp_path):
    task = load_task(file, tmp_path)
    others = [
        load_task(file, tmp_path, tokens(size=8)),
        load_task(file, tmp_path, Tokens(tokenizer=WHOLE_WORDS, size=16, pad=1)),
    ]
    assert {other.digest for other in others} == {task.digest}
    assert len({len(other.train.rows.values) for other in (task, *others)}) == 3
    content = file.read_text()
    for changed in (content.replace("bad", "poor"), content.replace(" a", " A", 1), content.replace("cat", "mat", 1)):
        file.write_text(changed)
        assert scan(DataSettings(source=str(file))).digest != task.digest
    file.write_text(content)
    assert scan(DataSettings(source=str(file), split_seed=1)).digest != task.digest


def test_texts_that_differ_in_case_share_a_split(tmp_path):
    rows = texts(20)
    file = write_lines(tmp_path / "t.txt", [*rows, *((text.upper() + " ", label) for text, label in rows)])
    split_of = {int(i.path.partition(":")[2]): i.split for i in survey(DataSettings(source=str(file))).items}
    assert all(split_of[line] == split_of[line + 40] for line in range(1, 41))


def test_equal_texts_in_two_splits_of_the_source_are_an_error(tmp_path):
    rows = texts(6)
    write_lines(tmp_path / "train.txt", rows[:8])
    write_lines(tmp_path / "test.txt", [*rows[8:], ("  " + rows[0][0].upper(), rows[0][1])])
    with pytest.raises(DataError, match=r"test.txt:5: same text as train.txt:1") as caught:
        scan(DataSettings(source=str(tmp_path)))
    assert caught.value.code == "E320"
    listing = scan(DataSettings(source=str(tmp_path), allow_leakage=True))
    assert ("E320", "warning") in codes(listing)


def test_a_text_of_an_earlier_stage_stays_in_its_split(file, tmp_path):
    history = History(load_task(file, tmp_path).records)
    more = write_lines(tmp_path / "more.txt", [*texts(60, seed=1), *texts(30)])
    listing = scan(DataSettings(source=str(more)), history=history)
    before = {item.sha256: item.split for item in scan(DataSettings(source=str(file))).items}
    assert {i.sha256: i.split for i in listing.items if i.sha256 in before} == before
    assert any("texts new" in finding.text for finding in listing.findings if finding.code == "W340")


def test_a_text_that_was_trained_on_may_not_be_held_out(file, tmp_path):
    history = History(load_task(file, tmp_path).records)
    rows = texts(30)
    write_lines(tmp_path / "d" / "train.txt", rows[:4])
    write_lines(tmp_path / "d" / "test.txt", rows[4:])
    with pytest.raises(DataError, match="trained on by an earlier stage") as caught:
        scan(DataSettings(source=str(tmp_path / "d")), history=history)
    assert caught.value.code == "E320"


def test_a_note_counts_the_texts_that_are_cut(file, tmp_path):
    longer = sum(len(tokens().decode(text)) > 6 for text, _ in texts(30))
    (note,) = [note for note in load_task(file, tmp_path, tokens(size=6)).notes if "W357" in note]
    assert note.startswith(f"W357 {longer} of 60 texts")
    assert not any("W357" in note for note in load_task(file, tmp_path).notes)


def test_another_tokenizer_or_size_tokenizes_again(file, tmp_path):
    task = Loader(settings=DataSettings(source=str(file)), cache=tmp_path / "cache").load(tokens())
    assert task.with_input(tokens()).train.rows is task.train.rows
    shorter = task.with_input(tokens(size=6))
    assert shorter.train.rows.lengths.max() == 6 < task.train.rows.lengths.max()
    assert shorter.train.names == task.train.names
    bare = replace(task, loader=None)
    with pytest.raises(DataError, match="texts of 6 tokens"):
        bare.with_input(tokens(size=6))
    file.write_text(file.read_text().replace("cat", "mat", 1))
    with pytest.raises(DataError, match="was changed during the run"):
        task.with_input(tokens(size=6))


def test_pairs_are_read_with_a_pattern_of_two_texts(tmp_path):
    rows = [(text, other, label) for (text, label), (other, _) in zip(texts(10), texts(10, seed=1), strict=True)]
    table = write_table(tmp_path / "t.csv", ("text", "reply", "label"), rows)
    task = load_task(table, tmp_path, tokens(size=40, pattern=PAIR), pair_column="reply")
    assert task.train.rows.row(0).tolist() == tokens(size=40, pattern=PAIR).decode(rows[0][:2]).tolist()
    with pytest.raises(DataError, match=r"t.csv:2: the pattern .* takes one text, not 2"):
        load_task(table, tmp_path, pair_column="reply")


def test_a_text_may_have_several_labels(tmp_path):
    rows = [(text, ("x|y", "y", "")[n % 3]) for n, (text, _) in enumerate(texts(15))]
    table = write_table(tmp_path / "t.csv", ("text", "tags"), rows)
    task = load_task(table, tmp_path, labels="multi", label_column="tags")
    assert task.output == MultiLabel(classes=("x", "y"))
    assert task.train.labels.shape == (len(task.train), 2)
    line = {f"t.csv:{n}": tags for n, (_, tags) in enumerate(rows, 2)}
    expected = [[int("x" in line[name]), int("y" in line[name])] for name in task.train.names]
    assert task.train.labels.tolist() == expected


def test_labels_in_a_column_each_may_be_unknown(tmp_path):
    rows = [(text, str(n % 2), ("0", "1", "")[n % 3]) for n, (text, _) in enumerate(texts(15))]
    table = write_table(tmp_path / "t.csv", ("text", "x", "y"), rows)
    task = load_task(table, tmp_path, labels="multi", label_columns=("y", "x"))
    assert task.classes == ("x", "y")
    assert label_tensor(task.train.labels, task.output).isnan().any()


def test_a_text_may_have_values(tmp_path):
    rows = [(text, f"{n / 4}") for n, (text, _) in enumerate(texts(20))]
    table = write_table(tmp_path / "t.csv", ("text", "stars"), rows)
    task = load_task(table, tmp_path, labels="value", label_column="stars")
    assert isinstance(task.output, Regression)
    assert set(task.test.labels[:, 0].tolist()) < {n / 4 for n in range(40)}


@pytest.mark.parametrize(
    ("name", "content", "options", "code", "problem"),
    [
        ("t.txt", "1 a\n0 b\n", {"labels": "multi"}, "E344", "t.txt is no table"),
        ("t.conll", "a O\nb B-X\n\n", {}, "E344", "has labels for its words"),
        ("t.txt", "1 a\n1 b\n", {}, "E312", "found only '1'"),
        ("t.csv", "text,label\na,1\nb,x\n", {"labels": "value"}, "E342", "'label' is 'x'"),
        ("t.csv", "text,label\na,1\n,0\n", {}, "E312", "found only '1'"),
        ("train.txt", "1 a\n", {}, "E312", "found only"),
    ],
)
def test_what_has_no_usable_label_is_refused(tmp_path, name, content, options, code, problem):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError) as caught:
        scan(DataSettings(source=str(tmp_path / name), **options))
    assert caught.value.code == code
    assert problem in caught.value.problem


def test_a_line_of_another_form_is_left_out_if_asked_for(tmp_path):
    lines = [json.dumps({"text": text, "label": label}) for text, label in texts(6)]
    (tmp_path / "t.jsonl").write_text("\n".join([*lines, "no JSON"]))
    with pytest.raises(DataError, match="no JSON"):
        scan(DataSettings(source=str(tmp_path / "t.jsonl")))
    listing = scan(DataSettings(source=str(tmp_path / "t.jsonl"), skip_bad=True))
    assert len(listing.items) == 12
    assert any("lines left out" in note for note in listing.notes)


def test_texts_of_some_labels_per_class(file, tmp_path):
    task = load_task(file, tmp_path, max_per_class=4)
    assert np.bincount(task.train.labels).tolist() == [4, 4]
    assert any("training texts selected" in note for note in task.notes)


@pytest.mark.parametrize(
    "option", [{"workers": 2}, {"canvas_scale": 2.0}, {"class_from": "parent"}, {"unlabelled": "x"}]
)
def test_settings_of_images_are_refused(file, option):
    with pytest.raises(SettingsError, match=rf"leave out {next(iter(option))}: it is a setting of images"):
        build(DataSettings, {"source": str(file), "format": "lines", **option}, "data")


def test_a_network_of_images_takes_no_texts_nor_the_other_way_round(file, tmp_path):
    with pytest.raises(SettingsError, match=r"this network takes images, and .*reviews.txt holds texts"):
        load_task(file, tmp_path, Preprocess(size=16))
    photos = class_folders(tmp_path / "photos", {"cat": 12, "dog": 12})
    with pytest.raises(SettingsError, match=r"this network takes texts, and .*photos holds images"):
        load_task(photos, tmp_path)


def test_windows_of_a_text_have_no_label_of_their_own(file, tmp_path):
    with pytest.raises(SettingsError, match="one label for a whole text"):
        load_task(file, tmp_path, tokens(size=8, stride=2))


def test_a_target_is_reported_on_and_its_texts_serve_without_labels(file, tmp_path):
    other = write_lines(tmp_path / "other.txt", texts(20, seed=3))
    settings = build(DataSettings, {"source": str(file), "target": str(other)}, "data")
    task = load(settings, tokens(), cache=tmp_path / "cache")
    assert task.output == task.target.output == SingleLabel(classes=("bad", "good"))
    assert len(task.unlabelled) == len(task.target.train)
    assert (task.unlabelled.labels == -1).all()
    assert "W339 target other: 4 test texts of 2 known classes" in task.notes
    whole = concat_splits(task.target)
    assert len(whole.rows) == len(whole.labels) == len(whole.names) == 40
    assert whole.rows.row(len(task.target.train)).tolist() == task.target.val.rows.row(0).tolist()


def test_a_target_of_images_is_refused_for_texts(file, tmp_path):
    photos = class_folders(tmp_path / "photos", {"bad": 12, "good": 12})
    settings = build(DataSettings, {"source": str(file), "target": str(photos)}, "data")
    with pytest.raises(SettingsError, match="reviews holds texts, its target images"):
        scan(settings, cache=tmp_path / "cache")


def test_a_part_of_a_split_has_its_rows(file, tmp_path):
    split = load_task(file, tmp_path).train
    part = subset(split, np.array([5, 0]))
    assert [row.tolist() for row in part.rows] == [split.rows.row(5).tolist(), split.rows.row(0).tolist()]
    assert part.names == [split.names[5], split.names[0]]
