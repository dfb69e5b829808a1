import warnings

import pytest

from effxfer.data.decoded import decode
from effxfer.data.listing import Item
from effxfer.files import sha256
from effxfer.runtime.images.preprocess import ImageError
from tests.data.corpus import class_folders, jpeg


def items_of(root):
    return [Item(f"a/{f.name}", "a", sha256=sha256(f)) for f in sorted((root / "a").iterdir())]


@pytest.mark.parametrize("workers", [1, 3])
def test_every_item_is_given_once_with_its_own_result(tmp_path, workers):
    items = items_of(class_folders(tmp_path, {"a": 100}))
    found = [pair for batch in decode.run_threaded(lambda item: item.path, items, workers) for pair in batch]
    assert sorted(found) == [(n, item.path) for n, item in enumerate(items)]


def test_an_error_of_the_task_comes_through(tmp_path):
    items = items_of(class_folders(tmp_path, {"a": 100}))

    def fail(item):
        raise RuntimeError(item.path)

    with pytest.raises(RuntimeError, match="a/"):
        list(decode.run_threaded(fail, items, 2))


def test_complaints_belong_to_their_image_and_are_not_shown(tmp_path):
    root = class_folders(tmp_path, {"a": 60})
    (root / "a" / "odd.jpg").write_bytes(jpeg(exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff broken"))
    items = items_of(root)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = [p for b in decode.run_threaded(lambda i: decode.decode_item(root, i, 10**6), items, 2) for p in b]
    complaining = [items[n].path for n, decoded in found if decoded.complaints]
    assert complaining == ["a/odd.jpg"]
    assert "W303" in decode.find_warnings(dict(found)[len(items) - 1])


def test_changed_and_vanished_files(tmp_path):
    root = class_folders(tmp_path, {"a": 2})
    items = items_of(root)
    (root / "a" / "000.jpg").write_bytes(jpeg(9))
    (root / "a" / "001.jpg").unlink()
    with pytest.raises(ImageError, match="E322"):
        decode.decode_item(root, items[0], 10**6)
    with pytest.raises(ImageError, match="E300"):
        decode.decode_item(root, items[1], 10**6)


def test_typical_side_and_threads(tmp_path):
    root = class_folders(tmp_path, {"a": 200})
    (root / "a" / "bad.jpg").touch()
    assert decode.typical_side(root, items_of(root), 10**6) == 40
    assert decode.typical_side(root, [], 10**6) == 0
    assert decode.typical_side(None, [Item("0/0000", "0")], 10**6) == 8
    assert decode.decoding_threads(3, 40) == 3
    assert decode.decoding_threads(None, 40) == 1
    assert decode.decoding_threads(None, 500) == decode.usable_logical_cores()
