"""Lottery tickets by iterative magnitude pruning (Frankle & Carbin, 2019, https://arxiv.org/abs/1803.03635)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from effxfer.errors import ModelFileError, SettingsError
from effxfer.net.net import KEEP
from effxfer.prune.weights.mask import Mask
from effxfer.prune.weights.scores.context import ScoreContext
from effxfer.prune.weights.scores.magnitude import magnitude
from effxfer.prune.weights.scores.movement import MOVED
from effxfer.prune.weights.select import Scope, select
from effxfer.prune.weights.sparsity import density, totals
from effxfer.report import Curve, Measurement, Report

Train = Callable[[Any, Mask, int], float]
Rank = Callable[[Any, Mask], Mapping[str, Tensor]]
Remember = Callable[[str, Callable[[], dict[str, Any]]], dict[str, Any]]
PLOT = "Accuracy against weights remaining"
PRUNABLE = "prunable weights remaining, %"
SCORE = "validation accuracy, %"


@dataclass(frozen=True, kw_only=True)
class Round:
    """One training on the way to the ticket.

    Attributes:
        remaining: Share of the prunable weights that were trained, in (0, 1].
        score: Score that `train` returned, e.g. validation accuracy in percent.
    """

    remaining: float
    score: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Ticket:
    """Result of iterative pruning.

    Attributes:
        mask: The surviving weights.
        number: The round that the ticket is of; 0 is the network that nothing was removed from.
        rounds: Every training, from the densest on; one more than the ticket's own, where that one lost too much.
        first: Mask before the first round.
        dense: The state after round 0: weights, buffers and masks, on the CPU.
    """

    mask: Mask
    number: int
    rounds: tuple[Round, ...]
    first: Mask
    dense: Mapping[str, Tensor]


def recompute(_name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Compute, and remember nothing: the default for `remember`."""
    return compute()


def by_magnitude(net: nn.Module, mask: Mask) -> Mapping[str, Tensor]:
    """Score weights by their magnitude: the default for `score`."""
    return magnitude(net, list(mask.keep), ScoreContext())


def find_ticket(
    net: nn.Module,
    train: Train,
    *,
    rounds: int,
    sparsity: float | None = None,
    fraction: float | None = None,
    score: Rank = by_magnitude,
    scope: Scope = "global",
    exclude: Sequence[str] = (),
    rewind: Mapping[str, Tensor] | None = None,
    keep_weights: bool = False,
    max_drop: float | None = None,
    remember: Remember = recompute,
) -> Ticket:
    """Train, prune and rewind, `rounds` times, then train the ticket.

    Each round removes the same share of what remains. A `Net` that already holds a ticket goes on from it.

    Args:
        net: Any module, changed in place; ends as the trained ticket. A `Net` holds its mask afterwards, of any other
            module `Ticket.mask` is the only copy.
        train: `(net, mask, round) -> score` trains the network in place, keeps removed weights at zero
            (`mask.apply_(net)` after every optimizer step) and returns a score, larger is better; rounds count from 0.
        rounds: Number of pruning rounds; 1 is one-shot pruning.
        sparsity: Share of the prunable weights to remove in total, in (0, 1); excludes `fraction`.
        fraction: Share of the remaining weights to remove in each round, in (0, 1); excludes `sparsity`.
        score: `(trained net, mask) -> scores`, by weight; larger means keep.
        scope: See `select`.
        exclude: Shell patterns of layers that are not pruned.
        rewind: The state (weights and buffers, head included) from which every training starts, the first one too.
            None is the state that the network comes with: for a pretrained network that is rewinding to the
            pretrained weights (https://arxiv.org/abs/2002.00585); the state after k steps of training is rewinding
            to step k (https://arxiv.org/abs/1912.05671).
        keep_weights: Start each round from the weights that the one before trained instead of rewinding them: with a
            `train` that repeats its schedule that is learning-rate rewinding, with one that goes on at its last rate
            fine-tuning (Renda et al., 2020, https://arxiv.org/abs/2003.02389).
        max_drop: Largest drop of the score against round 0; pruning then stops, and the ticket is that of the round
            before. None: no limit.
        remember: Returns the stored result of a named round, or computes and stores it.

    Returns:
        The ticket and how each round went.

    Raises:
        SettingsError: If a setting or a pattern makes no sense for this network.
        ModelFileError: If `rewind` does not fit the network, or what was trained is not finite.
        EffxferError: If `train` lets removed weights grow back.
    """
    _check(sparsity, fraction, rounds, max_drop)
    start = weights_of(net if rewind is None else rewind)
    # A ticket that the network holds is where this one starts.
    mask = ticket = first = Mask.of(net, exclude)
    history, best_round, weights, dense = list[Round](), 0, dict[str, Tensor](), dict[str, Tensor]()
    for number, target in enumerate([first.sparsity, *schedule(first.sparsity, rounds, sparsity, fraction)]):
        if number:
            mask = select(score(net, mask), mask, sparsity=target, scope=scope)
        # The first round always starts from `start`, which may be another state than the network's.
        if not (number and keep_weights):
            rewind_(net, start)
        mask.store_(net)
        state = remember(f"round-{number}", Training(net, train, mask, number))
        history.append(Round(remaining=1 - mask.sparsity, score=state["score"]))
        if max_drop is not None and state["score"] < history[0].score - max_drop:
            break
        best_round, ticket, weights, dense = number, mask, state["weights"], dense or state["weights"]
        net.load_state_dict(weights)
    net.load_state_dict(weights)
    return Ticket(mask=ticket, number=best_round, rounds=tuple(history), first=first, dense=dense)


def schedule(
    start: float, rounds: int, sparsity: float | None = None, fraction: float | None = None
) -> list[float]:  # fmt: skip
    """Return the sparsity after each round, where each round removes the same share of the rest.

    >>> schedule(0.0, 3, sparsity=0.875), schedule(0.5, 2, fraction=0.5)
    ([0.5, 0.75, 0.875], [0.75, 0.875])
    """
    if sparsity is None:
        return [1 - (1 - start) * (1 - (fraction or 0.0)) ** step for step in range(1, rounds + 1)]
    share = (1 - sparsity) / (1 - start)
    # The last one as given: powers would miss it by a rounding, and with it a weight.
    return [1 - (1 - start) * share ** (step / rounds) for step in range(1, rounds)] + [sparsity]


def report(net: nn.Module, ticket: Ticket, *, name: str = "ticket", score: str = SCORE) -> Report:
    """Report the sparsity of a ticket, by both denominators, and its score per round.

    Args:
        net: The network that holds the ticket.
        ticket: The result of `find_ticket`.
        name: Legend entry of the curves.
        score: Score that `train` returned, with its unit.
    """
    surviving, prunable = ticket.mask.counts
    everything, removed = totals(net)
    removed_elsewhere = removed - (prunable - surviving)
    points = tuple((100 * r.remaining, r.score) for r in ticket.rounds)
    of_all = tuple(
        (100 * (1 - (removed_elsewhere + (1 - r.remaining) * prunable) / everything), r.score) for r in ticket.rounds
    )
    return density(net, ticket.mask) + Report(
        rows=(Measurement(name="rounds", value=ticket.number),),
        notes=_stop_notes(ticket),
        curves=(
            Curve(title=PLOT, name=name, x=PRUNABLE, y=score, points=points),
            Curve(title=f"{PLOT}, of all", name=name, x="all weights remaining, %", y=score, points=of_all),
        ),
    )


def _stop_notes(ticket: Ticket) -> tuple[str, ...]:
    if len(ticket.rounds) - 1 == ticket.number:
        return ()
    last, dense = ticket.rounds[-1], ticket.rounds[0]
    text = (
        f"stopped: with {100 * last.remaining:.3g} % of the prunable weights the score is {last.score:.2f}, "
        f"the first round's {dense.score:.2f}"
    )
    return (text + (": the ticket is that of the round before" if ticket.number else ": nothing was removed"),)


def _check(sparsity: float | None, fraction: float | None, rounds: int, max_drop: float | None) -> None:
    for name, value in {"sparsity": sparsity, "fraction": fraction}.items():
        if value is not None and not 0 < value < 1:
            raise SettingsError(f"{name} must be in (0, 1), not {value}", code="E204")
    if (sparsity is None) == (fraction is None):
        raise SettingsError("give either sparsity or fraction", "fraction is the share that each round removes")
    if rounds < 1:
        raise SettingsError(f"rounds must be at least 1, not {rounds}", "1 is one-shot pruning", code="E204")
    if max_drop is not None and not max_drop >= 0:
        raise SettingsError(f"max_drop must be at least 0, not {max_drop}", code="E204")


@dataclass(frozen=True)
class Training:
    """One round of training for `remember`: a callable without arguments that returns plain values."""

    net: nn.Module
    train: Train
    mask: Mask
    number: int

    def __call__(self) -> dict[str, Any]:
        """Train; return the weights on the CPU and the score."""
        score = self.train(self.net, self.mask, self.number)
        # After each training: one forgotten `apply_` would make the ticket worthless, and nobody would see it.
        self.mask.check_zero(self.net)
        weights = {n: t.detach().cpu().clone() for n, t in self.net.state_dict().items()}
        return {"weights": weights, "score": float(score)}


def _drop_masks(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Drop masks and movement scores: rewinding undoes training, not pruning."""
    return {name: tensor for name, tensor in state.items() if not name.startswith((KEEP, MOVED))}


def weights_of(source: nn.Module | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy the state that rounds rewind to: weights and buffers, head included."""
    state = source.state_dict() if isinstance(source, nn.Module) else source
    return {name: tensor.detach().clone() for name, tensor in _drop_masks(state).items()}


def rewind_(net: nn.Module, start: Mapping[str, Tensor]) -> None:
    """Load the weights of `weights_of` into a network; its masks stay, and the caller applies them.

    Raises:
        ModelFileError: If they do not fit.
    """
    shapes = {n: t.shape for n, t in _drop_masks(net.state_dict()).items()}
    wrong = [n for n in shapes if n not in start or start[n].shape != shapes[n]] + [n for n in start if n not in shapes]
    if wrong:
        raise ModelFileError(f"the rewind state does not fit the network: {', '.join(wrong[:5])}", code="E405")
    net.load_state_dict(start, strict=False)
