import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.torch import load, save

from effxfer.errors import ModelFileError
from effxfer.net.edits import apply_edit
from effxfer.net.net import Net
from effxfer.prune.tickets.codec import pack_mask, unpack_mask
from effxfer.prune.tickets.file import TicketFile, pack
from effxfer.prune.tickets.ticket_report import describe
from effxfer.prune.weights.mask import Mask
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.signed_safetensors import dump
from tests.test_fuzz import damage, damaged

few = profile(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
FIT = {"epochs": 3, "optimizer": "adamw", "lr": 0.001, "schedule": "cosine"}
RECIPE = {"stage": "prune lottery", "settings": {"strategy": "full", "options": {}, "fit": FIT}}
ORIGIN = {"key": "k", "data": [{"name": "shapes"}], "reached": {"accuracy/val": 90.0}}
shapes = arrays.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=7)


def net_with(*, sparsity=0.8, seed=0, head=True):
    """A network that holds a random mask; with a head, as stages have it."""
    torch.manual_seed(seed)
    net = Net({"source": "effxfer.net.cifar:resnet20", "args": {"width": 4}}, Preprocess(size=16))
    if head:
        apply_edit(net, "set_head", spec={"kind": "linear"}, features=16, classes=["a", "b"])
    full = Mask.full(net)
    Mask({name: torch.rand(keep.shape) >= sparsity for name, keep in full.keep.items()}).store_(net)
    return net.eval()


def packed(net, start=None, **more):
    told = {"rewind": "the weights that the stage got", "recipe": RECIPE, "origin": ORIGIN, **more}
    return pack(net, net.state_dict() if start is None else start, **told)


@pytest.fixture(scope="module")
def net():
    return net_with()


@pytest.fixture(scope="module")
def ticket(net):
    return packed(net)


@given(arrays.arrays(np.bool_, shapes))
def test_any_mask_comes_back(mask):
    found = unpack_mask(pack_mask(mask), mask.shape)
    assert found.shape == mask.shape
    assert found.dtype == np.bool_
    assert np.array_equal(found, mask)
    assert pack_mask(mask).size == -(-mask.size // 8)


@given(arrays.arrays(np.bool_, shapes), st.integers(1, 3))
def test_a_mask_of_another_length_is_refused(mask, more):
    packed = np.concatenate([pack_mask(mask), np.zeros(more, np.uint8)])
    with pytest.raises(ModelFileError, match=r"a mask of shape .* does not have"):
        unpack_mask(packed, mask.shape)


@profile(few, max_examples=15)
@given(seed=st.integers(0, 1000), sparsity=st.floats(0, 1))
def test_any_ticket_comes_back(seed, sparsity):
    net = net_with(sparsity=sparsity, seed=seed)
    found = TicketFile.unpack(packed(net).content)
    again = found.network()
    assert again.masks().keys() == net.masks().keys()
    for name, keep in net.masks().items():
        assert torch.equal(again.masks()[name], keep)
    for name, tensor in net.state_dict().items():
        if name.startswith("body."):
            assert torch.equal(again.state_dict()[name], tensor)
    kept = sum(int(keep.sum()) for keep in net.masks().values())
    assert (found.facts.kept, found.facts.masked) == (kept, sum(keep.numel() for keep in net.masks().values()))
    assert found.facts.everything == sum(p.numel() for p in net.body.parameters())


def test_equal_tickets_are_equal_bytes(net, ticket):
    assert packed(net).content == ticket.content
    assert TicketFile.unpack(ticket.content).facts == ticket.facts


def test_masks_take_a_bit_for_each_weight(ticket):
    masks = {n: t for n, t in load(ticket.content).items() if n.startswith("mask/")}
    assert sum(t.numel() for t in masks.values()) == sum(-(-np.prod(s) // 8) for s in ticket.facts.shapes.values())


def test_the_head_stays_at_home(net, ticket):
    assert net.classes == ("a", "b")
    assert not [name for name in load(ticket.content) if "head" in name]
    assert "set_head" not in [edit["kind"] for edit in ticket.facts.edits]
    assert ticket.network().classes == ()
    assert packed(net_with(head=False)).facts.backbone == ticket.facts.backbone


def test_the_rewind_point_is_kept_whole(net):
    """Weights that the mask removes come along: a random mask and the dense network need them."""
    start = {name: tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in net.state_dict().items()}
    found = TicketFile.unpack(packed(net, start).content).network()
    for name, keep in found.masks().items():
        assert torch.equal(found.get_parameter(name), start[name])
        assert not bool((found.get_parameter(name)[~keep] == 0).all())
    found.apply_masks_()
    assert all(bool((found.get_parameter(name)[~keep] == 0).all()) for name, keep in found.masks().items())


def test_identity_is_of_what_a_training_depends_on(net, ticket):
    base = ticket.facts
    assert packed(net, origin={**ORIGIN, "key": "another"}).facts.identity == base.identity
    start = {n: t + 1 if t.is_floating_point() else t for n, t in net.state_dict().items()}
    others = [
        packed(net, start).facts,
        packed(net, recipe={**RECIPE, "settings": {**RECIPE["settings"], "fit": {**FIT, "epochs": 4}}}).facts,
        packed(net_with(seed=1), net.state_dict()).facts,
    ]
    assert len({base.identity, *(one.identity for one in others)}) == 4
    assert others[2].start == base.start, "another mask, the same dense network"
    assert others[0].start != base.start


def test_without_weights_it_points_to_them(net, ticket):
    lean = TicketFile.unpack(ticket.with_pointer({"source": "somewhere"}, ticket.weights()).content)
    assert lean.facts.identity == ticket.facts.identity
    assert lean.weights() is None
    assert len(lean.content) < len(ticket.content) / 4
    with pytest.raises(ModelFileError, match="the ticket holds no weights"):
        lean.network()
    assert lean.with_weights(ticket.weights(), "somewhere").content == ticket.content
    others = {name: t + 1 if t.is_floating_point() else t for name, t in ticket.weights().items()}
    for use in (
        lambda: lean.with_weights(others, "elsewhere"),
        lambda: ticket.with_pointer({"source": "elsewhere"}, others),
    ):
        with pytest.raises(
            ModelFileError, match="elsewhere has other weights than the ticket's rewind point"
        ) as caught:
            use()
        assert caught.value.code == "E404"


def test_weights_that_do_not_fit_are_named(net):
    start = {name: t for name, t in net.state_dict().items() if name != "body.stem.0.weight"}
    with pytest.raises(ModelFileError, match=r"weights do not fit its network: body\.stem\.0\.weight"):
        packed(net, start)


def test_a_ticket_of_another_architecture_is_refused(ticket):
    facts = replace(ticket.facts, backbone={"source": "effxfer.net.cifar:resnet20", "args": {"width": 8}})
    with pytest.raises(ModelFileError, match="do not fit its network") as caught:
        TicketFile(facts, ticket.content).network()
    assert caught.value.code == "E405"


@few
@given(how=damage)
def test_any_damage_is_found(ticket, how):
    content = damaged(ticket.content, how)
    try:
        found = TicketFile.unpack(content)
    except ModelFileError:
        return
    assert found.facts == ticket.facts
    assert found.network().state_dict().keys() == ticket.network().state_dict().keys()
    assert all(np.array_equal(mask, ticket.masks()[name]) for name, mask in found.masks().items())


def test_every_tensor_is_under_a_digest(ticket):
    start = 8 + int.from_bytes(ticket.content[:8], "little")
    tensors = load(ticket.content)
    document = json.loads(json.loads(ticket.content[8:start])["__metadata__"][TicketFile.kind.document])
    for name, tensor in list(tensors.items())[::5]:
        changed = {**tensors, name: tensor ^ 1 if name.startswith("mask/") else tensor + 1}
        content = save(changed, metadata={TicketFile.kind.document: json.dumps(document)})
        with pytest.raises(ModelFileError, match=r"SHA-256 of its (masks|weights)"):
            TicketFile.unpack(content)
    with pytest.raises(ModelFileError, match="its tensors must be masks, weights or files"):
        TicketFile.unpack(
            save({**tensors, "extra": torch.zeros(1)}, metadata={TicketFile.kind.document: json.dumps(document)})
        )
    with pytest.raises(ModelFileError, match="its files must be those that its input needs"):
        TicketFile.unpack(
            save({**tensors, "file/x": torch.zeros(1)}, metadata={TicketFile.kind.document: json.dumps(document)})
        )


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"schema": 2}, "has schema 2, this effxfer reads 1"),
        ({"kept": 1}, "its masks must keep 1 weights"),
        ({"shapes": {}}, "lists the shapes of other masks"),
        ({"shapes": 3}, "is damaged: field shapes: "),
        ({"more": 3}, "is damaged: field more: "),
    ],
)
def test_a_document_that_contradicts_the_rest_is_refused(ticket, change, text):
    start = 8 + int.from_bytes(ticket.content[:8], "little")
    document = json.loads(json.loads(ticket.content[8:start])["__metadata__"][TicketFile.kind.document])
    document.pop("sha256")
    with pytest.raises(ModelFileError, match=text):
        TicketFile.unpack(dump(load(ticket.content), {**document, **change}, TicketFile.kind.document), "mine")


def test_a_mask_without_weights_and_too_large_a_shape_is_refused(ticket):
    tensors = {"mask/body.x": torch.zeros(0, dtype=torch.uint8)}
    facts = replace(ticket.facts, shapes={"body.x": [0, 2**31, 2**31, 2**31]}, kept=0, pointer={"source": "somewhere"})
    with pytest.raises(ModelFileError, match="the ticket was changed since it was written: array is too big") as caught:
        TicketFile.unpack(TicketFile.pack(facts, tensors).content)
    assert caught.value.code == "E404"


@pytest.mark.parametrize("content", [b"", b"12345678", save({"x": torch.zeros(2)})])
def test_what_is_no_ticket_is_named(content):
    with pytest.raises(ModelFileError, match=r"a\.safetensors is not a") as caught:
        TicketFile.unpack(content, "a.safetensors")
    assert "effxfer prune" in caught.value.hint


def test_it_describes_itself_by_both_denominators(ticket):
    report, facts = describe(ticket), ticket.facts
    gone = facts.masked - facts.kept
    assert report["sparsity/prunable"].value == pytest.approx(100 * gone / facts.masked)
    assert report["sparsity/all"].value == pytest.approx(100 * gone / facts.everything)
    assert sum(row["kept"] for row in report.tables[0].rows) == facts.kept
    assert any("in the file" in note for note in report.notes)
    lean = describe(ticket.with_pointer({"source": "somewhere"}, ticket.weights()))
    assert any("those of somewhere" in note for note in lean.notes)
