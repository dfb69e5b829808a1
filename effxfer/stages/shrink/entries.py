"""Build the candidates that meet a latency, and list the others with their reasons."""

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from effxfer import progress
from effxfer.errors import GateError, ModelFileError, SettingsError
from effxfer.net.net import Net
from effxfer.prune.channels.latency_loop import ALLOWED, PairedTiming
from effxfer.stages.runner.saved_net import net_from_state, net_state
from effxfer.stages.shrink.contest import Contest, Network
from effxfer.stages.shrink.first_head import solve_head_
from effxfer.stages.shrink.kinds import KINDS, NEED_TRAINED_HEAD
from effxfer.stages.shrink.kinds.kind import Refusal, Sized, Workbench, too_slow
from effxfer.stages.shrink.scores import scores_of
from effxfer.stages.shrink.shipped import Shipping
from effxfer.stages.train.head import choose_thresholds
from effxfer.train.state import Work

UNCHANGED, LARGER, EXIT = "unchanged", "larger images", "exit"
# Chosen: less is a step of eight pixels or the noise of a timing.
SLACK = 0.8
# Chosen: how far from the limit a candidate's float32 latency may be by estimate, and is still measured.
UNSURE = 0.2
# Chosen: none of the slow kinds came as far below what smaller images and fewer channels reach.
FAR = 3.0
NO_TIME = "not built, because the time limit was near"
FAR_OFF = f"not built, because the nearest of the other kinds takes over {FAR:g} times the latency"


@dataclass(frozen=True, kw_only=True, eq=False)
class Entry:
    """A candidate before its training, or the reason why there is none.

    Attributes:
        network: Name of the network that it is made of.
        kind: A key of `KINDS`, or `unchanged`.
        timing: Its latency; of a refused one the nearest that was measured, or None.
        as_float: Latency of its float32 file where that may ship instead of int8; else None.
        kept_outputs: By layer, the outputs that it kept of its network; layers that are not named have all.
        detail: Its size, or the reason why there is none.
        state: The network, for `net_from_state`; None if there is none.
        loss: Mean loss on training images before training; where the head is new, with a solved one.
        before: Result of `scores_of` before training; empty of a refused one.
        epoch_seconds: Time that an epoch of training takes, by that of passes over a few images.
    """

    network: str
    kind: str
    timing: PairedTiming | None
    detail: str
    state: Mapping[str, Any] | None = None
    loss: float | None = None
    before: Mapping[str, Any] = field(default_factory=dict)
    epoch_seconds: float = 0.0
    as_float: PairedTiming | None = None
    kept_outputs: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name in tables and messages."""
        return self.network if self.kind == UNCHANGED else f"{self.network}, {self.kind}"

    def net(self) -> Net:
        """Return a new copy of the untrained network."""
        if self.state is None:
            raise ModelFileError(f"{self.name} has no network: {self.detail}")
        return net_from_state(self.state)


def build_entries(
    contest: Contest, limit: float, networks: Sequence[Network], work: Work, due: float | None = None
) -> list[Entry]:  # fmt: skip
    """Build one candidate of each kind of each network; one that meets the latency as it is loses nothing.

    Args:
        contest: What all candidates share.
        limit: Largest latency, as a share of the input network's float32 p50.
        networks: The networks to make candidates of.
        work: Saves every candidate.
        due: Time, by the clock of the contest, after which no further candidate is built if there is one; None: never.

    Returns:
        Candidates in the order of their training, see `training_order`; then the refused ones, of which `state` is
        None.
    """
    entries, pairs, began = list[Entry](), building_order(networks, contest.settings.kinds, limit), contest.now()
    # What is slow to build must begin early: it cannot be cut short.
    due_for_slow = due and began + (due - began) / 2
    with progress.bar("candidates", len(pairs)) as advance:
        for network, kind in pairs:
            latest = due_for_slow if kind in NEED_TRAINED_HEAD else due
            is_late = latest is not None and contest.now() > latest and any(entry.state for entry in entries)
            # Saved as well: built after a cut, it would take the place of another one, and its finished training.
            is_futile = kind in NEED_TRAINED_HEAD and is_far_off(entries, network.name, limit)
            reason = NO_TIME if is_late else FAR_OFF if is_futile else ""
            make = partial(refuse_unbuilt, reason) if reason else partial(build, contest, network, kind, limit)
            entries.append(entry_of(work.once(f"candidate-{network.number}-{kind}", make), network.name, kind))
            if not is_late:
                advance(1, f"{network.name}, {kind}")
    return training_order(entries)


def refuse_unbuilt(reason: str) -> dict[str, Any]:
    """Return what `entry_of` reads of a candidate that is not built."""
    return {"timing": "", "detail": reason}


def is_far_off(entries: Sequence[Entry], network: str, limit: float) -> bool:
    """Whether all that was built of a network is so far from a latency that the slow kinds are a waste of minutes."""
    ratios = [entry.timing.ratio for entry in entries if entry.network == network and entry.timing]
    return bool(ratios) and min(ratios) > FAR * limit


def training_order(entries: Sequence[Entry]) -> list[Entry]:
    """Sort candidates so that those that time may not suffice for come last: first the best of each network.

    Scores before training compare what is left of one network well, and networks with each other less so: a body that
    was trained on the task is ahead of one whose head alone was solved.
    """
    ready = sorted(
        (entry for entry in entries if entry.state is not None),
        key=lambda entry: float(entry.before["val"]), reverse=True,
    )  # fmt: skip
    best = list({entry.network: entry for entry in reversed(ready)}.values())
    best.sort(key=ready.index)
    second_ways = [entry for entry in ready if entry not in best]
    return [*best, *second_ways, *(entry for entry in entries if entry.state is None)]


def building_order(networks: Sequence[Network], kinds: Sequence[str], limit: float) -> list[tuple[Network, str]]:
    """Order what is to be built so that time that runs out costs least.

    What is fast already comes first: it needs no building. Then each kind is tried on all networks before the next one,
    on the fastest first, which has the least to lose. Otherwise the slow kinds of the first network would take the time
    of all others.
    """
    pairs = [(network, kind) for network in networks for kind in kinds_for(network, limit)]
    ranks = {UNCHANGED: -1, **{kind: number for number, kind in enumerate(kinds)}}
    return sorted(pairs, key=lambda pair: (pair[0].present.ratio > limit, ranks[pair[1]], pair[0].present.ratio))


def kinds_for(network: Network, limit: float) -> list[str]:
    """List the kinds that apply to a network: one that is fast enough stays as it is, or takes larger images."""
    if network.present.ratio > limit:
        rule = {LARGER} if network.is_trained else {LARGER, *NEED_TRAINED_HEAD}
        return [kind for kind in network.settings.kinds if kind not in rule]
    is_faster = network.present.ratio < SLACK * limit and network.full_side > network.net.input.size
    return [UNCHANGED, LARGER] if is_faster and LARGER in network.settings.kinds else [UNCHANGED]


def build(contest: Contest, network: Network, kind: str, limit: float) -> dict[str, Any]:
    """Build one candidate and look at it before training; return what `entry_of` reads."""
    bench = Workbench(
        limit=limit, present=network.present, time=lambda smaller: contest.time(smaller, network.shipping),
        task_for=contest.task_for, settings=network.settings, device=contest.device, full_side=network.full_side,
        is_trained=network.is_trained,
    )  # fmt: skip
    sized = size_candidate(network, kind, bench)
    nearest = sized.nearest if isinstance(sized, Refusal) else sized.timing
    timing = json.dumps(asdict(nearest)) if nearest else ""
    if isinstance(sized, Refusal):
        return {"timing": timing, "detail": sized.reason}
    net, as_float = sized.net.eval(), time_as_float(contest, network, sized, limit)
    # A solved head belongs to the body that it was solved on, and that of an exit is new.
    if kind == EXIT or (kind != UNCHANGED and not network.is_trained):
        solve_head_(net, contest.task_for(net), network.settings.seed)
    # A candidate may ship without training, which would choose them.
    choose_thresholds(net, contest.task_for(net), contest.device)
    try:
        before = scores_of(contest, net, network.name, can_ship_float=as_float is not None)
    except ModelFileError as error:
        return {"timing": timing, "detail": error.problem}
    return {
        "timing": timing, "detail": sized.detail, "state": net_state(net), "before": before,
        "loss": bench.loss(net), "epoch_seconds": contest.epoch_seconds(net),
        "kept_outputs": json.dumps({name: list(positions) for name, positions in sized.kept_outputs.items()}),
        "as_float": json.dumps(asdict(as_float)) if as_float else "",
    }  # fmt: skip


def time_as_float(contest: Contest, network: Network, sized: Sized, limit: float) -> PairedTiming | None:
    """Time the float32 file of a candidate that is built for int8; None if that is slower than the limit."""
    if network.as_float is None:
        return None
    slower = network.as_float.ratio / network.present.ratio
    if sized.timing is network.present:
        timing = network.as_float
    elif sized.timing.ratio * slower > limit * (1 + UNSURE):
        # As its network is: most are far from it, and a timing takes seconds.
        return None
    else:
        timing = contest.time(sized.net, Shipping(int8=False, settings=contest.settings))
    return timing if timing.ratio <= limit else None


def size_candidate(network: Network, kind: str, bench: Workbench) -> Sized | Refusal:
    """Run a kind on a copy of a network; an error of the network or of the settings is the reason of a refusal."""
    net = deepcopy(network.net).to(bench.device.torch).eval()
    if kind == UNCHANGED:
        return Sized(net=net, timing=network.present, detail=f"{net.input.size} px")
    try:
        sized = KINDS[kind](net, bench)
    except (GateError, ModelFileError, SettingsError) as error:
        return Refusal(reason=error.problem)
    # Channels come in steps, and their search takes the nearest.
    if isinstance(sized, Sized) and sized.timing.ratio > bench.limit * (1 + ALLOWED):
        return too_slow(sized.detail, sized.timing)
    return sized


def entry_of(saved: Mapping[str, Any], network: str, kind: str) -> Entry:
    """Read what `build` returned."""
    timing, as_float = (
        PairedTiming(**json.loads(saved[name])) if saved.get(name) else None for name in ("timing", "as_float")
    )
    return Entry(
        network=network, kind=kind, timing=timing, detail=saved["detail"], state=saved.get("state"),
        loss=saved.get("loss"), before=saved.get("before", {}), epoch_seconds=saved.get("epoch_seconds", 0.0),
        as_float=as_float, kept_outputs=json.loads(saved.get("kept_outputs", "{}")),
    )  # fmt: skip
