import pytest

from effxfer.errors import ModelFileError
from effxfer.net.edits import rebuild
from tests.net.nets import SMALL, WIDE


@pytest.mark.parametrize(
    "edit",
    [
        {"kind": "resize", "shapes": {"body.stem.0.weight": [10**12, 3, 3, 3]}, "sizes": {}},
        {"kind": "resize", "shapes": {"body.stem.0.weight": [5 * 10**9]}, "sizes": {}},
        {"kind": "set_head", "spec": {"kind": "linear"}, "features": 10**9, "classes": ["a", "b"]},
        {"kind": "set_head", "spec": {"kind": "linear"}, "features": [10**9, 3], "classes": ["a", "b"]},
    ],
)
def test_no_edit_fills_the_memory(edit):
    with pytest.raises(ModelFileError, match="numbers, where") as caught:
        rebuild(WIDE, [edit], SMALL)
    assert caught.value.code == "E405"
