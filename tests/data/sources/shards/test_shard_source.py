import io
import json
import tarfile

import numpy as np
import pytest

from effxfer.data import load as loading
from effxfer.data.settings import DataSettings
from effxfer.errors import DataError
from effxfer.runtime.images.preprocess import Preprocess
from tests.data.corpus import class_folders

INPUT = Preprocess(size=16)


def entry(name, size=0, **fields):
    info = tarfile.TarInfo(name)
    info.size = size
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def write_tar(file, contents, mode="w", extra=()):
    with tarfile.open(file, mode, format=tarfile.PAX_FORMAT) as tar:
        for name, content in contents.items():
            tar.addfile(entry(name, len(content)), io.BytesIO(content))
        for info in extra:
            tar.addfile(info, io.BytesIO(b"\0" * info.size) if info.isreg() else None)
    return file


def samples(folder, as_json=False):
    """The images of class folders as samples: image and label, numbered."""
    contents = {}
    for number, image in enumerate(sorted(folder.rglob("*.jpg"))):
        label = image.parent.name
        contents[f"part/{number:03d}.jpg"] = image.read_bytes()
        contents[f"part/{number:03d}.{'json' if as_json else 'cls'}"] = (
            json.dumps({"label": label}).encode() if as_json else label.encode()
        )
    return contents


@pytest.fixture
def photos(tmp_path):
    return class_folders(tmp_path / "photos", {"cat": 12, "dog": 12})


def task_of(source, tmp_path):
    settings = DataSettings(source=str(source), val_fraction=0.25, test_fraction=0.25)
    return loading.load(settings, INPUT, cache=tmp_path / "cache")


@pytest.mark.parametrize("as_json", [False, True])
def test_pixels_and_labels_are_those_of_the_folder(photos, tmp_path, as_json):
    shard = write_tar(tmp_path / "photos.tar", samples(photos, as_json))
    in_shard, in_folder = (task_of(source, tmp_path) for source in (shard, photos))
    assert in_shard.classes == in_folder.classes == ("cat", "dog")
    for name in ("train", "val", "test"):
        both = [
            sorted((int(y), np.asarray(x).tobytes()) for x, y in zip(split.rows, split.labels, strict=True))
            for split in (getattr(in_shard, name), getattr(in_folder, name))
        ]
        assert len(both[0]) == len(both[1]) > 0
    rows = [np.concatenate([np.asarray(s.rows) for s in (t.train, t.val, t.test)]) for t in (in_shard, in_folder)]
    assert sorted(x.tobytes() for x in rows[0]) == sorted(x.tobytes() for x in rows[1])
    assert in_shard.train.decode_row(0).shape[-1] == 3


def test_shards_of_a_folder_have_the_splits_of_their_names(photos, tmp_path):
    folder = tmp_path / "shards"
    folder.mkdir()
    contents = samples(photos)
    for split, chosen in (("train", {0, 1}), ("val", {2})):
        part = {name: content for name, content in contents.items() if int(name[5:8]) % 3 in chosen}
        write_tar(folder / f"{split}-000.tar", part)
    listing = loading.scan(DataSettings(source=str(folder)), cache=tmp_path / "cache")
    assert {item.path.partition("-")[0]: item.split for item in listing.items if item.split != "test"} == {
        "train": "train", "val": "val",
    }  # fmt: skip


def test_a_tar_that_was_changed_is_read_anew(photos, tmp_path):
    contents = samples(photos)
    shard = write_tar(tmp_path / "s.tar", contents)
    settings = DataSettings(source=str(shard))
    first = loading.scan(settings, cache=tmp_path / "cache")
    contents["part/000.jpg"], contents["part/001.jpg"] = contents["part/001.jpg"], contents["part/000.jpg"]
    write_tar(shard, contents)
    digests = [
        {item.path: item.sha256 for item in each.items}
        for each in (first, loading.scan(settings, cache=tmp_path / "cache"))
    ]
    assert digests[0]["s.tar/part/000.jpg"] == digests[1]["s.tar/part/001.jpg"]
    assert digests[0]["s.tar/part/002.jpg"] == digests[1]["s.tar/part/002.jpg"]


@pytest.mark.parametrize(
    ("info", "text"),
    [
        (entry("a.jpg", type=tarfile.SYMTYPE, linkname="/etc/passwd"), "which is a link"),
        (entry("a.jpg", type=tarfile.LNKTYPE, linkname="part/000.jpg"), "which is a link"),
        (entry("a.jpg", type=tarfile.FIFOTYPE), "which is a device"),
        (entry("a.jpg", type=tarfile.CHRTYPE), "which is a device"),
        (entry("a.jpg", type=tarfile.GNUTYPE_SPARSE), "which is a sparse file"),
        (entry("/a.jpg"), "leads out of it"),
        (entry("../a.jpg"), "leads out of it"),
        (entry("part/000.jpg"), "twice"),
    ],
)
def test_what_is_no_plain_file_is_refused(photos, tmp_path, info, text):
    shard = write_tar(tmp_path / "s.tar", samples(photos), extra=[info])
    with pytest.raises(DataError, match=text) as caught:
        loading.scan(DataSettings(source=str(shard)), cache=tmp_path / "cache")
    assert caught.value.code == "E323"


def test_a_tar_that_is_cut_off_compressed_or_no_tar_is_refused(photos, tmp_path):
    contents = samples(photos)
    whole = write_tar(tmp_path / "whole.tar", contents).read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[:700])
    write_tar(tmp_path / "gz.tar", contents, mode="w:gz")
    (tmp_path / "text.tar").write_bytes(b"no tar at all" * 100)
    for name in ("cut", "gz", "text"):
        with pytest.raises(DataError) as caught:
            loading.scan(DataSettings(source=str(tmp_path / f"{name}.tar")), cache=tmp_path / "cache")
        assert caught.value.code == "E323", name


def test_a_header_that_states_gigabytes_is_not_read(tmp_path):
    info = entry("x", size=0)
    info.type = tarfile.XHDTYPE
    header = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    header[124:136] = b"37777777777\0"  # 8 GB of a pax header
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    shard = tmp_path / "s.tar"
    with shard.open("wb") as stream:
        stream.write(header)
        stream.truncate(2**33 + 2**20)  # sparse: it takes no room
    with pytest.raises(DataError, match="a header states"):
        loading.scan(DataSettings(source=str(shard)), cache=tmp_path / "cache")


@pytest.mark.parametrize("label", [b"\xff", b'{"label": [1]}', b'{"name": "a"}', b"[" * 5000, b"{"])
def test_a_label_that_cannot_be_read_is_refused(tmp_path, label):
    shard = write_tar(tmp_path / "s.tar", {"1.jpg": b"x", "1.json": label})
    with pytest.raises(DataError) as caught:
        loading.scan(DataSettings(source=str(shard)), cache=tmp_path / "cache")
    assert caught.value.code == "E323"


def test_images_without_a_label_are_named(photos, tmp_path):
    contents = samples(photos)
    del contents["part/003.cls"]
    shard = write_tar(tmp_path / "s.tar", contents)
    with pytest.raises(DataError, match=r"without a label: part/003\.jpg"):
        loading.scan(DataSettings(source=str(shard)), cache=tmp_path / "cache")


def test_a_folder_that_is_named_like_a_tar_is_a_folder(photos, tmp_path):
    (photos / "cat").rename(photos / "cat.tar")
    listing = loading.scan(DataSettings(source=str(photos)), cache=tmp_path / "cache")
    assert listing.classes == ("cat.tar", "dog")
