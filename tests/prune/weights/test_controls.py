import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from effxfer.errors import EffxferError
from effxfer.prune.weights.controls import WORDS, Control, random_mask, report_controls, run_controls
from effxfer.prune.weights.lottery import find_ticket
from effxfer.prune.weights.mask import Mask
from effxfer.train.state import Work, clone
from tests.prune.nets import accuracy, learn, make, needles, without_smallest

KINDS = tuple(WORDS)


def masks(net):
    """What survived before, and a ticket in it."""
    first = without_smallest(net, Mask.full(net), sparsity=0.2)
    return first, without_smallest(net, first, sparsity=0.7)


def run(net, train, **changes):
    first, ticket = masks(net)
    once = without_smallest(net, first, sparsity=0.7, scope="erk")
    told = {"kinds": KINDS, "repeats": 2, "seed": 5, "ticket": ticket, "first": first, "one_shot": once}
    return run_controls(net, train, **{**told, "start": clone(net), **changes})


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31), st.floats(0.2, 0.99))
def test_a_shuffled_mask_keeps_as_many_of_each_layer_within_the_first(seed, sparsity):
    net = make()
    first = without_smallest(net, Mask.full(net), sparsity=0.2)
    ticket = without_smallest(net, first, sparsity=max(sparsity, first.sparsity))
    mask = random_mask(net, ticket, first, seed)
    assert {n: int(k.sum()) for n, k in mask.keep.items()} == {n: int(k.sum()) for n, k in ticket.keep.items()}
    assert all(bool((keep <= first.keep[n]).all()) for n, keep in mask.keep.items())


def test_every_control_starts_as_its_name_says():
    net = make()
    first, ticket = masks(net)
    state, seen = clone(net), {}

    def train(net, kind, number):
        seen[kind, number] = clone(net), Mask.of(net)
        return {"val": float(number)}

    found = run(net, train)
    assert [(c.kind, c.number, c.scores["val"]) for c in found] == [(k, n, n) for k in KINDS for n in range(2)]
    for (kind, _), (weights, mask) in seen.items():
        assert mask.counts == (first if kind == "dense" else ticket).counts
        if kind == "re-initialised":
            assert not torch.equal(weights["body.bn1.weight"], state["body.bn1.weight"])
            continue
        masked = {n: state[n] * k for n, k in mask.keep.items()}
        own = {n: t for n, t in state.items() if not n.startswith("keep/")}
        assert all(torch.equal(weights[n], masked.get(n, t)) for n, t in own.items())
    assert all(torch.equal(k, ticket.keep[n]) for n, k in seen["re-initialised", 1][1].keep.items())
    one, other = (seen["random", n][1].keep["body.conv2.weight"] for n in range(2))
    assert not torch.equal(one, other)
    one, other = (seen["re-initialised", n][0]["body.conv2.weight"] for n in range(2))
    assert not torch.equal(one, other)
    assert all(torch.equal(t, state[n]) for n, t in net.state_dict().items())


def test_goes_on_after_a_cut(tmp_path):
    net, calls = make(), []

    def dying(net, kind, number):
        if (kind, number) == ("random", 1):
            raise KeyboardInterrupt
        return {"val": float(net.body.conv2.weight.detach().sum())}

    def counting(net, kind, number):
        calls.append((kind, number))
        return {"val": float(net.body.conv2.weight.detach().sum())}

    with pytest.raises(KeyboardInterrupt):
        run(net, dying, remember=Work(tmp_path).once)
    resumed = run(net, counting, remember=Work(tmp_path).once)
    assert calls == [(kind, 1) for kind in KINDS]
    assert resumed == run(net, counting)


def test_training_that_revives_weights_is_refused():
    def careless(net, kind, number):
        with torch.no_grad():
            net.body.conv2.weight.add_(1)
        return {"val": 0.0}

    with pytest.raises(EffxferError, match="revived"):
        run(make(), careless)


def report(values, ticket=90.0):
    net = make()
    first, mask = masks(net)
    runs = [Control(kind=k, number=n, scores={"val": v, "test": v - 1}) for k, vs in values.items()
            for n, v in enumerate(vs)]  # fmt: skip
    return report_controls({"val": ticket, "test": 88.0}, runs, ticket=mask, first=first, trainings="3 epochs")


def test_the_report_has_ranges_and_counts():
    found = report({"random": [80.0, 84.0, 83.0], "dense": [89.0]})
    row = found["random mask accuracy/val"]
    assert (row.value, row.low, row.high, row.n) == (83.0, 80.0, 84.0, 3)
    assert found["dense, trained as long accuracy/test"].value == 88.0
    table = found.tables[0].rows
    assert [r["network"] for r in table] == ["ticket", "random mask", "dense, trained as long"]
    assert [round(r["weights %"]) for r in table] == [30, 30, 80]
    assert [r["n"] for r in table] == [1, 3, 1]
    assert table[1]["val range"] == "80.00 to 84.00"
    assert [len(curve.points) for curve in found.curves] == [3, 1]
    assert found.notes == ()


def test_the_report_says_where_the_ticket_is_no_better():
    beaten = report({"random": [90.0], "re-initialised": [89.0], "one-shot": [95.0], "dense": [90.0]})
    assert [("random" in n or "one-shot" in n) for n in beaten.notes] == [True, True]
    (unmatched,) = report({"dense": [90.1]}).notes
    assert "does not match the dense network" in unmatched


def test_the_ticket_beats_a_random_mask_where_few_inputs_matter():
    """Sparsity 0.97, five seeds measured with 3 rounds of 100 steps, accuracy in %.

    Dense 72 to 74, ticket 94 to 95, random mask 38 to 69; the mask is all here: weights drawn anew give 96 to 97.
    """
    images, labels = needles(2048)
    held, held_labels = needles(1024, seed=1)

    def train(net, *_):
        learn(net, images, labels, steps=60)
        return accuracy(net, held, held_labels)

    gaps = []
    for seed in range(2):
        torch.manual_seed(seed)
        net = make("tests.prune.nets:Wired")
        start = clone(net)
        ticket = find_ticket(net, train, sparsity=0.97, rounds=2)
        (control,) = run_controls(
            net, lambda *given: {"val": train(*given)}, kinds=["random"], repeats=1, seed=seed, ticket=ticket.mask,
            first=ticket.first, one_shot=ticket.mask, start=start,
        )  # fmt: skip
        gaps.append(ticket.rounds[-1].score - control.scores["val"])
    assert sum(gaps) / len(gaps) > 10, gaps
