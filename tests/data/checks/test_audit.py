import csv
import os

import pytest

from effxfer.data.checks.audit import COLUMNS, audit
from effxfer.data.load import load
from effxfer.data.settings import DataSettings
from effxfer.errors import DataError, SettingsError
from effxfer.runtime.images.preprocess import Preprocess
from tests.data.corpus import IMAGES, class_folders, encoded, images_table, jpeg, photo
from tests.data.label_tables import TAGS, VALUES, labelled_images, settings_of
from tests.data.text_files import texts, write_lines, write_table


def look(root, tmp_path, **options):
    return audit(DataSettings(source=str(root), **options), cache=tmp_path / "cache")


def found(result, path):
    return {(finding.code, finding.severity) for finding in result.findings if finding.path == path}


@pytest.fixture
def corpus_audit(tmp_path):
    root = class_folders(tmp_path / "data", {"cat": 3, "dog": 3})
    for kind in IMAGES:
        (root / "cat" / kind.name).write_bytes(kind.make())
    return look(root, tmp_path)


def test_every_kind_of_image_is_named(corpus_audit):
    for kind in IMAGES:
        got = found(corpus_audit, f"cat/{kind.name}")
        codes = {code for code, _ in got}
        assert codes == {kind.error or kind.warning} - {""}, kind.name
        assert not kind.error or ("error" in {severity for _, severity in got})


def test_errors_come_first_and_are_counted(corpus_audit):
    severities = [finding.severity for finding in corpus_audit.findings]
    assert severities == sorted(severities, key=["error", "warning", "note"].index)
    bad, large = sum(bool(kind.error) for kind in IMAGES), sum(kind.error == "E307" for kind in IMAGES)
    report = corpus_audit.report
    assert len(corpus_audit.errors) == bad == report["errors"].value
    assert report["unreadable"].value == pytest.approx(100 * bad / (len(IMAGES) + 6))
    assert report["images"].value == len(IMAGES) + 6
    assert any(note.startswith(f"E307 {large} problems") for note in report.notes)


def test_balance_table(tmp_path):
    result = look(class_folders(tmp_path / "data", {"cat": 20, "dog": 10}), tmp_path)
    assert result.report.tables[0].rows == (
        {"class": "cat", "train": 16, "val": 2, "test": 2},
        {"class": "dog", "train": 8, "val": 1, "test": 1},
    )
    assert result.report["imbalance"].value == 2
    assert not result.errors


def test_csv_holds_every_finding(corpus_audit, tmp_path):
    file = corpus_audit.write_csv(tmp_path / "out" / "data_audit.csv")
    with file.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert rows == corpus_audit.rows()
    assert list(rows[0]) == list(COLUMNS)


def test_csv_survives_any_file_name(tmp_path):
    import os

    root = class_folders(tmp_path / "data", {"cat": 3, "dog": 3})
    (root / "cat" / os.fsdecode(b'caf\xe9,\n"x".jpg')).write_bytes(b"bad")
    file = look(root, tmp_path).write_csv(tmp_path / "data_audit.csv")
    with file.open(newline="", encoding="utf-8") as stream:
        assert next(csv.DictReader(stream))["code"] == "E301"


def test_skip_bad_turns_unreadable_images_into_warnings(tmp_path):
    root = class_folders(tmp_path / "data", {"cat": 3, "dog": 3})
    (root / "cat" / "bad.jpg").write_bytes(b"bad")
    assert found(look(root, tmp_path, skip_bad=True), "cat/bad.jpg") == {("E301", "warning")}


@pytest.mark.parametrize(("options", "severity"), [({}, "error"), ({"allow_leakage": True}, "warning")])
def test_leaks_by_file_and_by_pixels(tmp_path, options, severity):
    root = class_folders(tmp_path / "data", {f"{s}/{c}": 3 for s in ("train", "val", "test") for c in "ab"})
    (root / "train/a/x.png").write_bytes(encoded(photo(500), "PNG"))
    (root / "test/a/same_pixels.bmp").write_bytes(encoded(photo(500), "BMP"))
    (root / "val/b/same_file.png").write_bytes(encoded(photo(500), "PNG"))
    result = look(root, tmp_path, **options)
    assert found(result, "val/b/same_file.png") == {("E320", severity), ("W336", "warning")}
    assert found(result, "test/a/same_pixels.bmp") == {("E320", severity)}
    assert "same pixels as train/a/x.png" in next(f.text for f in result.findings if f.path.endswith("bmp"))


def test_layout_errors_are_listed_together(tmp_path):
    root = class_folders(tmp_path / "data", {"cat": 3, "dog": 1, "owl": 0, ".hidden": 1})
    assert {finding.code for finding in look(root, tmp_path).findings} == {"E311", "E313", "W313", "W314", "W339"}


def test_table_errors_are_listed_together(tmp_path):
    rows = [*images_table(tmp_path, 6), ("../out.jpg", "cat"), ("images/none.jpg", "dog"), ("images/001.jpg", "dog")]
    (tmp_path / "t.csv").write_text("\n".join(["path,label", *(",".join(row) for row in rows)]))
    assert {f.code for f in look(tmp_path / "t.csv", tmp_path).errors} == {"E335", "E333", "E336"}


def test_builtin_is_clean(tmp_path):
    result = look("digits", tmp_path)
    assert {finding.code for finding in result.findings} == {"W339"}
    assert result.report["images"].value == 1797


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        look(tmp_path / "nowhere", tmp_path)


def test_progress(tmp_path):
    calls = []
    root = class_folders(tmp_path / "data", {"cat": 40, "dog": 40})
    audit(DataSettings(source=str(root)), cache=tmp_path / "cache", progress=lambda *call: calls.append(call))
    assert calls[-1] == (80, 80)
    assert len(calls) > 1


def codes_of_load(tmp_path, **options):
    """The code that every command ends in, which loads the data as these do; empty if it goes on."""
    try:
        load(DataSettings(**options), Preprocess(size=16), cache=tmp_path / "cache")
    except DataError as error:
        return error.code
    return ""


def small(root, folders, seed=0):
    return str(class_folders(root, dict.fromkeys(folders, 12), seed=seed))


def test_images_without_labels_are_looked_at_as_the_commands_do(tmp_path):
    source, more = small(tmp_path / "data", ("cat", "dog")), small(tmp_path / "more", ("x",), seed=500)
    (tmp_path / "more" / "x" / "broken.jpg").write_bytes(jpeg()[:200])
    found = look(source, tmp_path, unlabelled=more)
    assert [(f.code, f.path) for f in found.errors] == [("E302", "../more/x/broken.jpg")]
    assert codes_of_load(tmp_path, source=source, unlabelled=more) == "E302"
    assert found.report["images"].value == 24


def test_a_target_is_looked_at_as_the_commands_do(tmp_path):
    source, there = small(tmp_path / "data", ("cat", "dog")), small(tmp_path / "there", ("cat", "owl"), seed=500)
    assert [f.code for f in look(source, tmp_path, target=there).errors] == ["E321"]
    assert codes_of_load(tmp_path, source=source, target=there) == "E321"
    assert not look(source, tmp_path, target=there, target_classes="same").errors
    assert codes_of_load(tmp_path, source=source, target=there, target_classes="same") == ""
    (tmp_path / "there" / "cat" / "broken.jpg").write_bytes(jpeg()[:200])
    (error,) = look(source, tmp_path, target=there, target_classes="same").errors
    assert (error.code, error.path) == ("E302", f"{there}/cat/broken.jpg")
    assert codes_of_load(tmp_path, source=source, target=there, target_classes="same") == "E302"


@pytest.mark.parametrize("kind", ["truncated", "pipe"])
def test_a_class_that_loses_all_its_images_is_an_error_even_where_bad_ones_are_left_out(tmp_path, kind):
    source = small(tmp_path / "data", ("cat", "dog", "owl"))
    for file in (tmp_path / "data" / "owl").iterdir():
        if kind == "truncated":
            file.write_bytes(b"gone " + file.name.encode())
        else:
            file.unlink()
            os.mkfifo(file)
    (error,) = look(source, tmp_path, skip_bad=True).errors
    assert (error.code, error.text) == ("E313", "no readable training image in 'owl'")
    assert codes_of_load(tmp_path, source=source, skip_bad=True) == "E313"


@pytest.mark.parametrize("kind", [TAGS, VALUES])
def test_wrong_labels_are_looked_for_among_single_ones_only(tmp_path, kind):
    settings = settings_of(labelled_images(tmp_path), kind)
    with pytest.raises(SettingsError, match="labels that may be wrong are found among single labels, and labels is"):
        audit(settings, cache=tmp_path / "cache", extra_checks=list)
    assert not audit(settings, cache=tmp_path / "cache").errors


def test_equal_images_of_other_kinds_are_found_within_and_across_splits(tmp_path):
    table = labelled_images(tmp_path, 20, splits=["train"] * 12 + ["val"] * 6 + ["test"] * 2)
    images = tmp_path / "images"
    (images / "013.jpg").write_bytes((images / "001.jpg").read_bytes())
    (images / "003.jpg").write_bytes((images / "002.jpg").read_bytes())
    result = audit(settings_of(table, TAGS), cache=tmp_path / "cache")
    assert [(f.code, f.path) for f in result.errors] == [("E320", "images/013.jpg")]
    assert [f.text for f in result.findings if f.code == "W336"] == [
        "the same content has two labels: beach and dog"
    ] * 2


def test_texts_are_audited_by_their_content(tmp_path):
    rows = [*texts(30), ("caf\u00c3\u00a9 <br>", "good"), (texts(1)[0][0].upper(), "good")]
    result = look(write_lines(tmp_path / "reviews.txt", rows), tmp_path)
    assert found(result, "reviews.txt:61") == {("W352", "warning"), ("W354", "warning")}
    assert found(result, "reviews.txt:62") >= {("W336", "warning")}
    assert [row.name for row in result.report.rows][:5] == [
        "texts",
        "texts/train",
        "texts/val",
        "texts/test",
        "classes",
    ]
    assert result.report["texts"].value == 62
    assert result.report.tables[0].title == "texts by class"
    assert "unreadable" not in {row.name for row in result.report.rows}
    assert len(result.findings) == len(set(result.findings)), "nothing is said twice"


def test_texts_of_two_splits_that_are_equal_are_errors(tmp_path):
    rows = texts(6)
    write_lines(tmp_path / "d" / "train.txt", rows[:8])
    write_lines(tmp_path / "d" / "test.txt", [*rows[8:], rows[0]])
    (error,) = look(tmp_path / "d", tmp_path).errors
    assert (error.code, error.path) == ("E320", "test.txt:5")


def test_labels_of_texts_are_counted(tmp_path):
    rows = [(text, ("x|y", "y", "")[n % 3]) for n, (text, _) in enumerate(texts(15))]
    table = write_table(tmp_path / "t.csv", ("text", "label"), rows)
    report = look(table, tmp_path, labels="multi").report
    assert report["labels per text"].value == pytest.approx(1, abs=0.1)
    assert report.tables[0].title == "texts by label"
