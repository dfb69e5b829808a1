import pytest
import torch

from effxfer.errors import SettingsError
from effxfer.settings import build
from effxfer.transfer.fine_tuning.freeze import Freeze
from effxfer.transfer.fine_tuning.full import Full
from effxfer.transfer.fine_tuning.probe import Probe
from tests.transfer.tasks import adapt, task

PLAIN = {"batch": 12, "augment": {"crop": "none", "flip": False}}
STATISTICS = ("running_mean", "running_var")
MOVES = {
    "train": {"kernel", "affine", "statistics"},
    "frozen": {"kernel"},
    "statistics": {"kernel", "statistics"},
    "affine": {"kernel", "affine"},
}


def moved(strategy):
    """Which kinds of the body's tensors move in an epoch: all of a kind, or none."""
    _, before, after, _ = adapt(strategy, task(), epochs=1)
    kinds = dict[str, set[bool]]()
    for name, tensor in before.items():
        if name.startswith("body.") and "num_batches" not in name:
            kind = "statistics" if name.endswith(STATISTICS) else "kernel" if tensor.dim() > 1 else "affine"
            kinds.setdefault(kind, set()).add(not torch.equal(tensor, after[name]))
    assert all(len(found) == 1 for found in kinds.values()), "all of a kind, or none"
    return {kind for kind, found in kinds.items() if found == {True}}


@pytest.mark.parametrize("mode", MOVES)
def test_only_what_was_asked_for_moves(mode):
    assert moved(Full(**PLAIN, batchnorm=mode)) == MOVES[mode]


@pytest.mark.parametrize("mode", MOVES)
def test_of_a_frozen_body_too(mode):
    """The claim: a frozen backbone's BatchNorm does not move at all, unless a mode says so."""
    expected = set() if mode == "train" else MOVES[mode] - {"kernel"}
    assert moved(Freeze(**PLAIN, until=1.0, batchnorm=mode)) == expected


def test_where_it_has_no_effect_it_is_refused():
    with pytest.raises(SettingsError, match="batchnorm has no effect on probe"):
        build(Probe, {"batchnorm": "frozen"}, "options")
