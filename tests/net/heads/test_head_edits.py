import pytest

from effxfer.errors import SettingsError
from effxfer.net.edits import apply_edit
from tests.net.nets import inputs, made


def test_a_head_that_makes_no_sense_is_refused_with_a_suggestion():
    net = made()
    with pytest.raises(SettingsError, match="did you mean 'kind'"):
        apply_edit(net, "set_head", spec={"kid": "linear"}, features=32, classes=["a"])
    assert len(net.edits) == 1, "an edit that failed is not remembered"


def test_classes_and_taps_follow_the_head():
    net = made()
    apply_edit(net, "set_head", spec={"kind": "linear"}, features=16 + 32, classes=["x", "y"], taps=["stage2", "out"])
    assert (net.classes, net.taps) == (("x", "y"), ("stage2", "out"))
    assert net(inputs()).shape == (3, 2)
