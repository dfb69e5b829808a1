from itertools import pairwise

import pytest
import torch

from effxfer.errors import EffxferError, ModelFileError, SettingsError
from effxfer.prune.weights.lottery import find_ticket, report, schedule
from effxfer.prune.weights.mask import Mask
from effxfer.train.state import Work, clone
from tests.prune.nets import make, without_smallest

CONV = "body.conv2.weight"


def nudge(net, mask, number):
    """A training that moves every surviving weight the same way each time it is called with a number."""
    with torch.no_grad():
        for i, parameter in enumerate(net.parameters()):
            made = torch.Generator().manual_seed(100 * number + i)
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=made))
    net.apply_masks_()
    return 90.0 - number


def test_removes_equal_shares_and_rewinds_every_round():
    net = make()
    start, seen = clone(net), []

    def train(net, mask, number):
        seen.append((number, round(mask.sparsity, 3)))
        state = net.state_dict()
        assert all(torch.equal(state[n], t) for n, t in start.items() if n not in mask.keep)
        assert all(torch.equal(state[n], start[n] * k) for n, k in mask.keep.items())
        return nudge(net, mask, number)

    ticket = find_ticket(net, train, sparsity=0.875, rounds=3)
    assert seen == [(0, 0.0), (1, 0.5), (2, 0.75), (3, 0.875)]
    assert [r.score for r in ticket.rounds] == [90, 89, 88, 87]
    assert [round(r.remaining, 3) for r in ticket.rounds] == [1, 0.5, 0.25, 0.125]


def test_ends_as_the_trained_ticket():
    net, expected = make(), make()
    expected.load_state_dict(net.state_dict())
    ticket = find_ticket(net, nudge, sparsity=0.5, rounds=2)
    ticket.mask.check_zero(net)
    assert torch.equal(net.masks()[CONV], ticket.mask.keep[CONV])
    ticket.mask.store_(expected)
    nudge(expected, ticket.mask, 2)
    assert all(torch.equal(t, net.state_dict()[n]) for n, t in expected.state_dict().items())


def test_each_round_prunes_what_the_round_before_trained():
    net = make()
    start, states = clone(net), []

    def train(net, mask, number):
        score = nudge(net, mask, number)
        states.append((clone(net), mask))
        return score

    find_ticket(net, train, sparsity=0.75, rounds=2)
    for (state, mask), (_, after) in pairwise(states):
        fresh = make()
        Mask.full(fresh).store_(fresh)
        fresh.load_state_dict(state)
        assert torch.equal(without_smallest(fresh, mask, sparsity=after.sparsity).keep[CONV], after.keep[CONV])
    assert not torch.equal(start[CONV], states[0][0][CONV])


def test_rewinds_to_a_given_state_from_the_first_round_on():
    net, early = make(), {n: t + 1 if t.is_floating_point() else t for n, t in clone(make()).items()}
    seen = []

    def train(net, mask, number):
        seen.append(torch.equal(net.body.bn1.weight, early["body.bn1.weight"]))
        return nudge(net, mask, number)

    find_ticket(net, train, sparsity=0.5, rounds=2, rewind=early)
    assert seen == [True, True, True]


def test_a_rewind_state_that_does_not_fit_is_refused():
    net = make()
    with pytest.raises(ModelFileError, match=r"body\.conv1\.weight"):
        find_ticket(net, nudge, sparsity=0.5, rounds=1, rewind=clone(make(args={"width": 4})))


def test_goes_on_from_a_ticket():
    net = make()
    without_smallest(net, Mask.full(net), sparsity=0.5).store_(net)
    first = Mask.of(net)
    ticket = find_ticket(net, nudge, sparsity=0.875, rounds=2)
    assert [round(r.remaining, 2) for r in ticket.rounds] == [0.5, 0.25, 0.12]
    assert all((ticket.mask.keep[n] <= k).all() for n, k in first.keep.items())


def test_excluded_layers_lose_nothing():
    net = make()
    ticket = find_ticket(net, nudge, sparsity=0.9, rounds=1, exclude=["body.conv1"])
    assert list(ticket.mask.keep) == [CONV]
    assert bool((net.body.conv1.weight != 0).all())


@pytest.mark.parametrize("killed_in", [0, 1, 2])
def test_resumes_to_the_same_ticket(tmp_path, killed_in):
    torch.manual_seed(0)
    whole = make()
    ticket = find_ticket(whole, nudge, sparsity=0.75, rounds=2)
    calls = []

    def dying(net, mask, number):
        if number == killed_in:
            raise KeyboardInterrupt
        return nudge(net, mask, number)

    def counting(net, mask, number):
        calls.append(number)
        return nudge(net, mask, number)

    torch.manual_seed(0)
    with pytest.raises(KeyboardInterrupt):
        find_ticket(make(), dying, sparsity=0.75, rounds=2, remember=Work(tmp_path).once)
    torch.manual_seed(0)
    resumed = make()
    again = find_ticket(resumed, counting, sparsity=0.75, rounds=2, remember=Work(tmp_path).once)
    assert calls == list(range(killed_in, 3))
    assert again.rounds == ticket.rounds
    assert all(torch.equal(k, ticket.mask.keep[n]) for n, k in again.mask.keep.items())
    assert all(torch.equal(t, whole.state_dict()[n]) for n, t in resumed.state_dict().items())


def test_training_that_revives_weights_is_refused():
    def careless(net, mask, number):
        with torch.no_grad():
            net.body.conv2.weight.add_(1)
        return 50.0

    with pytest.raises(EffxferError, match="revived"):
        find_ticket(make(), careless, sparsity=0.5, rounds=1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"sparsity": 0.0},
        {"sparsity": 1.0},
        {"fraction": 1.0},
        {"sparsity": 0.5, "rounds": 0},
        {"sparsity": 0.5, "max_drop": -1.0},
        {"sparsity": 0.5, "max_drop": float("nan")},
        {},
        {"sparsity": 0.5, "fraction": 0.5},
    ],
    ids=str,
)
def test_settings_without_sense_are_refused(wrong):
    with pytest.raises(SettingsError, match=r"must be|either sparsity or fraction"):
        find_ticket(make(), nudge, **{"rounds": 1, **wrong})


def test_schedule_ends_exactly():
    assert schedule(0.5, 1, 0.9) == [0.9]
    assert schedule(0.0, 5, 0.9)[-1] == 0.9
    assert schedule(0.2, 2, fraction=0.5) == pytest.approx([0.6, 0.8])


def test_a_fraction_goes_in_every_round():
    ticket = find_ticket(make(), nudge, fraction=0.2, rounds=3)
    assert [round(r.remaining, 2) for r in ticket.rounds] == [1, 0.8, 0.64, 0.51]


def test_weights_can_go_on_from_the_round_before():
    net, ends = make(), {}

    def train(net, mask, number):
        if number:
            before = ends[number - 1]
            state = net.state_dict()
            assert all(torch.equal(state[n], before[n] * k) for n, k in mask.keep.items())
            assert torch.equal(state["body.bn1.weight"], before["body.bn1.weight"])
        score = nudge(net, mask, number)
        ends[number] = clone(net)
        return score

    find_ticket(net, train, sparsity=0.75, rounds=2, keep_weights=True)
    assert sorted(ends) == [0, 1, 2]


@pytest.mark.parametrize(("max_drop", "number"), [(0.0, 0), (0.5, 0), (1.0, 1), (2.9, 2), (3.0, 3), (None, 3)])
def test_stops_where_too_much_is_lost_and_keeps_the_ticket_before(max_drop, number):
    torch.manual_seed(0)
    net = make()
    ticket = find_ticket(net, nudge, sparsity=0.875, rounds=3, max_drop=max_drop)
    assert ticket.number == number
    assert len(ticket.rounds) == min(number + 2, 4)
    assert [round(r.remaining, 3) for r in ticket.rounds] == [1, 0.5, 0.25, 0.125][: len(ticket.rounds)]
    assert ticket.mask.sparsity == pytest.approx(1 - 0.5**number)
    assert torch.equal(net.masks()[CONV], ticket.mask.keep[CONV])
    notes = report(net, ticket).notes
    assert bool(notes) == (number < 3)
    torch.manual_seed(0)
    expected = make()
    if number:
        find_ticket(expected, nudge, sparsity=ticket.mask.sparsity, rounds=number)
        assert all(torch.equal(t, net.state_dict()[n]) for n, t in expected.state_dict().items())


def test_scores_can_be_given():
    def reversed_magnitude(net, mask):
        return {name: -net.get_parameter(name).detach().abs() for name in mask.keep}

    seen = {}

    def train(net, mask, number):
        seen[number] = clone(net)
        return 0.0

    ticket = find_ticket(make(), train, sparsity=0.5, rounds=1, score=reversed_magnitude, scope="layer")
    for name, keep in ticket.mask.keep.items():
        sizes = seen[0][name].abs()
        assert sizes[keep].max() <= sizes[~keep].min()


def test_report_has_both_denominators_and_a_curve():
    net = make()
    ticket = find_ticket(net, nudge, sparsity=0.5, rounds=1)
    rows = report(net, ticket)
    everything = sum(p.numel() for p in net.parameters())
    assert rows.get("sparsity/prunable") == pytest.approx(50)
    assert rows.get("sparsity/all") == pytest.approx(100 * 684 / everything)
    assert rows.curves[0].points == ((100.0, 90.0), (pytest.approx(50.0), 89.0))
    assert rows.curves[1].points == ((100.0, 90.0), (pytest.approx(100 * (1 - 684 / everything)), 89.0))
    assert [row["of"] for row in rows.tables[0].rows] == [216, 1152]


def test_what_an_earlier_ticket_removed_elsewhere_counts_among_all_weights():
    net = make()
    without_smallest(net, Mask.full(net), sparsity=0.5).store_(net)
    rows = report(net, find_ticket(net, nudge, sparsity=0.9, rounds=1, exclude=["body.conv1"]))
    removed = sum(int((net.get_parameter(n) == 0).sum()) for n in net.masks())
    everything = sum(p.numel() for p in net.parameters())
    assert rows.get("sparsity/all") == pytest.approx(100 * removed / everything)
    assert rows.curves[1].points[-1][0] == pytest.approx(100 * (1 - removed / everything))
    assert rows.get("weights kept") == everything - removed
