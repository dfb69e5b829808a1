import os

import pytest

from effxfer.data.checks.audit import audit
from effxfer.data.checks.unread import find_unreadable
from effxfer.data.load import load, scan, survey
from effxfer.data.settings import DataSettings
from effxfer.errors import DataError
from effxfer.runtime.images.preprocess import Preprocess
from tests.data.corpus import class_folders, images_table, jpeg
from tests.data.label_tables import AGE, TAGS, labelled_images
from tests.data.label_tables import settings_of as kind_settings

SMALL = Preprocess(size=16)
KINDS = {"pipe": "E300", "device": "E300", "link to a pipe": "E300", "sparse": "E307"}


def settings_of(source, **options):
    return DataSettings(source=str(source), val_fraction=0.2, test_fraction=0.2, **options)


def special(place, kind):
    """Put something that is no usable file at `place`."""
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "device":
        place.symlink_to("/dev/zero")
    elif kind == "link to a pipe":
        os.mkfifo(place.with_name("queue"))
        place.symlink_to("queue")
    else:
        with place.open("wb") as stream:
            stream.write(jpeg())
            stream.truncate(3_000_000_000)
    return place


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def root(tmp_path, kind):
    root = class_folders(tmp_path / "data", {"cat": 12, "dog": 12})
    special(root / "cat" / "odd.jpg", kind)
    return root


def test_what_is_no_file_is_named_and_neither_opened_nor_read(root, tmp_path, kind):
    with pytest.raises(DataError, match=r"cat/odd.jpg: .*(no regular file|3000 MB is above the limit)") as caught:
        scan(settings_of(root), cache=tmp_path / "cache")
    assert caught.value.code == KINDS[kind]


def test_check_finds_the_same(root, tmp_path, kind):
    found = audit(settings_of(root), cache=tmp_path / "cache")
    assert [(f.code, f.path) for f in found.errors] == [(KINDS[kind], "cat/odd.jpg")]


def test_skip_bad_leaves_it_out(root, tmp_path, kind):
    task = load(settings_of(root, skip_bad=True), SMALL, cache=tmp_path / "cache")
    assert len(task.train) + len(task.val) + len(task.test) == 24
    assert f"{KINDS[kind]} unreadable, left out: 1 (cat/odd.jpg)" in task.notes


def test_in_a_table(tmp_path, kind):
    rows = [*images_table(tmp_path), ("images/odd.jpg", "cat")]
    special(tmp_path / "images" / "odd.jpg", kind)
    (tmp_path / "t.csv").write_text("\n".join(["path,label", *map(",".join, rows)]))
    found = survey(settings_of(tmp_path / "t.csv"), cache=tmp_path / "cache")
    assert [(f.code, f.path) for f in found.findings if f.severity == "error"] == [(KINDS[kind], "images/odd.jpg")]


def test_among_images_without_labels(tmp_path, kind):
    root = class_folders(tmp_path / "data", {"cat": 12, "dog": 12})
    class_folders(tmp_path / "more", {"x": 3}, seed=500)
    special(tmp_path / "more" / "x" / "odd.jpg", kind)
    with pytest.raises(DataError, match=r"more/x/odd.jpg") as caught:
        scan(settings_of(root, unlabelled=str(tmp_path / "more")), cache=tmp_path / "cache")
    assert caught.value.code == KINDS[kind]


def test_the_size_limit_grows_with_max_pixels(tmp_path):
    root = class_folders(tmp_path / "data", {"cat": 12, "dog": 12})
    with (root / "cat" / "000.jpg").open("r+b") as stream:
        stream.truncate(300_000_000)
    assert [f.code for f in survey(settings_of(root), cache=tmp_path).findings if f.severity == "error"] == ["E307"]
    larger = survey(settings_of(root, max_pixels=100_000_000), cache=tmp_path)
    assert not [f for f in larger.findings if f.severity == "error"]


@pytest.mark.parametrize(
    ("error", "code", "severity"),
    [
        (FileNotFoundError(2, "No such file or directory"), "E333", "error"),
        (PermissionError(13, "Permission denied"), "E319", "warning"),
        (OSError(36, "File name too long"), "E300", "warning"),
        (OSError(40, "Too many levels of symbolic links"), "E300", "warning"),
    ],
)
def test_what_the_system_refuses(error, code, severity):
    for skip_bad, expected in ((False, "error"), (True, severity)):
        (finding,) = find_unreadable({"a": error}, DataSettings(source="x", skip_bad=skip_bad))
        assert (finding.code, finding.severity, finding.path) == (code, expected, "a")
        assert finding.hint or skip_bad


@pytest.mark.parametrize("kind", [TAGS, AGE])
def test_other_kinds_of_label_need_a_readable_training_image_and_not_one_of_each_label(tmp_path, kind):
    table = labelled_images(tmp_path, 12, splits=["train"] * 6 + ["val"] * 4 + ["test"] * 2)
    settings = kind_settings(table, kind, skip_bad=True)
    for number in range(1, 6):
        (tmp_path / "images" / f"{number:03d}.jpg").write_bytes(f"no image {number}".encode())
    assert not [f for f in audit(settings, cache=tmp_path / "cache").errors if f.code == "E313"]
    (tmp_path / "images" / "000.jpg").write_bytes(b"no image 0")
    assert [f.text for f in audit(settings, cache=tmp_path / "cache").errors] == ["no readable training image"]
    with pytest.raises(DataError, match="no readable training image") as caught:
        load(settings, SMALL, cache=tmp_path / "cache")
    assert caught.value.code == "E313"
