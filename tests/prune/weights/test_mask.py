import pytest
import torch

from effxfer.errors import EffxferError, ModelFileError, SettingsError
from effxfer.net.edits import rebuild
from effxfer.prune.weights.mask import Mask
from tests.prune.nets import make


def halves(net):
    keep = Mask.full(net).keep
    for tensor in keep.values():
        tensor.view(-1)[::2] = False
    return Mask(keep)


def test_full_covers_the_body_without_depthwise_norms_and_head():
    full = Mask.full(make())
    assert list(full.keep) == ["body.conv1.weight", "body.conv2.weight"]
    assert full.counts == (8 * 27 + 16 * 72, 8 * 27 + 16 * 72)
    assert full.sparsity == 0


def test_full_knows_attention_projections():
    net = make("tests.prune.nets:Attending")
    assert list(Mask.full(net).keep) == [
        "body.first.weight",
        "body.attend.in_proj_weight",
        "body.attend.out_proj.weight",
    ]


@pytest.mark.parametrize("pattern", ["body.conv1", "body.conv1.weight", "*conv1*", "body.con?1"])
def test_exclude_takes_layers_and_weights(pattern):
    assert list(Mask.full(make(), [pattern]).keep) == ["body.conv2.weight"]


def test_exclude_names_the_pattern_that_matches_nothing():
    with pytest.raises(SettingsError, match=r"body\.conv9.*did you mean"):
        Mask.full(make(), ["body.conv1", "body.conv9"])


def test_exclude_of_everything_is_refused():
    with pytest.raises(SettingsError, match="no weight is left"):
        Mask.full(make(), ["*"])


def test_store_zeroes_and_travels_with_the_edits():
    net = make()
    mask = halves(net)
    mask.store_(net)
    copy = rebuild(net.backbone, net.edits, net.input, net.classes)
    copy.load_state_dict(net.state_dict())
    mask.check_zero(copy)
    assert Mask.of(copy).sparsity == mask.sparsity == 0.5


def test_a_stored_ticket_only_shrinks():
    net = make()
    halves(net).store_(net)
    Mask.full(net).store_(net)
    assert Mask.of(net).sparsity == 0.5
    keep = Mask.full(net).keep
    for tensor in keep.values():
        tensor.view(-1)[1::2] = False
    Mask(keep).store_(net)
    assert Mask.of(net).sparsity == 1
    assert [e["kind"] for e in net.edits].count("sparsify") == 1


def test_replace_gives_weights_back_that_were_removed():
    net = make()
    halves(net).store_(net)
    Mask.full(net, ["*conv1"]).replace_(net)
    assert bool(net.masks()["body.conv2.weight"].all())
    assert not bool(net.masks()["body.conv1.weight"].all()), "what the mask does not name stays"
    halves(net).replace_(net)
    assert Mask.of(net).sparsity == 0.5
    halves(net).check_zero(net)


def test_store_adds_layers_to_a_ticket():
    net = make()
    Mask.full(net, ["*conv1"]).store_(net)
    halves(net).store_(net)
    assert Mask.of(net).keep.keys() == Mask.full(net).keep.keys()


def test_of_gives_the_ticket_without_what_is_excluded():
    net = make()
    halves(net).store_(net)
    assert list(Mask.of(net, ["*conv2"]).keep) == ["body.conv1.weight"]


def test_of_gives_a_copy():
    net = make()
    halves(net).store_(net)
    Mask.of(net).keep["body.conv1.weight"].fill_(True)
    assert Mask.of(net).sparsity == 0.5


def test_apply_zeroes_without_an_edit():
    net = make()
    before = list(net.edits)
    mask = halves(net)
    mask.apply_(net)
    mask.check_zero(net)
    assert net.edits == before


def test_check_zero_names_the_revived_layer():
    net = make()
    mask = halves(net)
    mask.apply_(net)
    with torch.no_grad():
        net.body.conv2.weight.add_(1)
    with pytest.raises(EffxferError, match=r"revived 576 .*conv2"):
        mask.check_zero(net)


@pytest.mark.parametrize(
    ("keep", "text"),
    [({"body.conv3.weight": torch.ones(2)}, "lacks"), ({"body.conv1.weight": torch.ones(2)}, "shape")],
)
def test_a_mask_that_does_not_fit_is_refused(keep, text):
    with pytest.raises(ModelFileError, match=text) as caught:
        Mask(keep).store_(make())
    assert caught.value.code == "E410"
