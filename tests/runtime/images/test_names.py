import pytest
from PIL import Image

from effxfer.runtime.images.formats import FORMATS
from effxfer.runtime.images.names import SUFFIX_OF, SUFFIXES, is_image, is_litter


def test_every_suffix_is_that_of_a_format_that_is_opened():
    Image.init()
    pillow = Image.registered_extensions()
    assert set(SUFFIX_OF) == {*FORMATS, "MPO", "HEIF"}
    assert {pillow[suffix] for suffix in SUFFIXES - {".heic", ".heif"}} <= {*FORMATS, "MPO", "DIB"}


@pytest.mark.parametrize(("name", "says"), [("a.JPG", True), ("a.pgm", True), ("a.psd", False), ("a.jpg.txt", False)])
def test_images_by_their_name(name, says):
    assert is_image(name) == says


@pytest.mark.parametrize(
    ("name", "says"),
    [("Thumbs.db", True), ("desktop.ini", True), (".DS_Store", True), ("._a.jpg", True), ("LOST+FOUND", True),
     ("lost", False), ("recycler.jpg", False), ("git", False)],
)  # fmt: skip
def test_litter_by_its_name(name, says):
    assert is_litter(name) == says
