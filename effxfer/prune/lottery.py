"""Lottery tickets by iterative magnitude pruning (Frankle & Carbin, 2019, https://arxiv.org/abs/1803.03635)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from effxfer.errors import ModelFileError, SettingsError
from effxfer.net.net import KEEP, Net
from effxfer.prune.magnitude import Scope, magnitude
from effxfer.prune.mask import Mask
from effxfer.report import Curve, Measurement, Report, Table

Train = Callable[[Net, Mask, int], float]
Remember = Callable[[str, Callable[[], dict[str, Any]]], dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Round:
    """One training on the way to the ticket.

    Attributes:
        remaining: Share of the prunable weights that were trained, in (0, 1].
        score: What `train` returned, e.g. validation accuracy in percent.
    """

    remaining: float
    score: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Ticket:
    """What iterative pruning found.

    Attributes:
        mask: The surviving weights.
        rounds: Every training, from the densest to the ticket's own.
    """

    mask: Mask
    rounds: tuple[Round, ...]


def forget(_name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Compute, and remember nothing: the default for `remember`."""
    return compute()


def find_ticket(
    net: Net,
    train: Train,
    *,
    sparsity: float,
    rounds: int,
    scope: Scope = "global",
    exclude: Sequence[str] = (),
    rewind: Mapping[str, Tensor] | None = None,
    remember: Remember = forget,
) -> Ticket:
    """Train, prune and rewind, `rounds` times, then train the ticket.

    Each round removes the same share of what remains, so that the last one reaches `sparsity`. A network that
    already holds a ticket goes on from it.

    Args:
        net: Changed in place; ends as the trained ticket, and holds its mask.
        train: `(net, mask, round) -> score` trains the network in place, keeps removed weights at zero
            (`net.constrain_()` after every step) and gives a score, larger is better; rounds count from 0.
        sparsity: Share of the prunable weights to remove, in (0, 1).
        rounds: How many times to prune; 1 is one-shot pruning.
        scope: As in `magnitude`.
        exclude: Shell patterns of layers that lose nothing.
        rewind: The state (weights and buffers, head included) from which every training starts, the first one too.
            None is the state that the network comes with: for a pretrained network that is rewinding to the
            pretrained weights (https://arxiv.org/abs/2002.00585); the state after k steps of training is rewinding
            to step k (https://arxiv.org/abs/1912.05671).
        remember: Gives back what a named round came to, if it was computed before; else computes and stores it.

    Returns:
        The ticket and how each round went.

    Raises:
        SettingsError: If `sparsity`, `rounds` or `exclude` make no sense for this network.
        ModelFileError: If `rewind` does not fit the network.
        EffxferError: If `train` lets removed weights grow back.
    """
    _check(sparsity, rounds)
    start = _weights(net if rewind is None else rewind)
    mask = Mask.of(net, exclude)
    targets = schedule(mask.sparsity, sparsity, rounds)
    history = []
    for number, target in enumerate([mask.sparsity, *targets]):
        if number:
            mask = magnitude(net, mask, sparsity=target, scope=scope)
        _rewind_(net, start, mask)
        state = remember(f"round-{number}", _Training(net, train, mask, number))
        net.load_state_dict(state["weights"])
        history.append(Round(remaining=1 - mask.sparsity, score=state["score"]))
    return Ticket(mask=mask, rounds=tuple(history))


def schedule(start: float, sparsity: float, rounds: int) -> list[float]:
    """Give the sparsity after each round, such that each round removes the same share of what remains.

    >>> schedule(0.0, 0.875, 3)
    [0.5, 0.75, 0.875]
    """
    share = (1 - sparsity) / (1 - start)
    return [1 - (1 - start) * share ** (done / rounds) for done in range(1, rounds)] + [sparsity]


def report(net: Net, ticket: Ticket, *, name: str = "ticket", score: str = "validation accuracy, %") -> Report:
    """Say how sparse a network with a ticket is, by both denominators, and how its score fell.

    Args:
        net: The network that holds the ticket.
        ticket: What `find_ticket` gave.
        name: Legend entry of the curve.
        score: What `train` returned, with its unit.
    """
    kept, prunable = ticket.mask.counts
    everything = sum(p.numel() for p in net.parameters())
    rows = [
        {"weight": n, "kept": int(k.sum()), "of": k.numel(), "kept, %": 100 * float(k.double().mean())}
        for n, k in ticket.mask.keep.items()
    ]
    return Report(
        rows=(
            _share("sparsity/prunable", prunable - kept, prunable, "prunable weights"),
            _share("sparsity/all", prunable - kept, everything, "all weights"),
            Measurement(name="weights kept", value=everything - (prunable - kept)),
            Measurement(name="rounds", value=len(ticket.rounds) - 1),
        ),
        tables=(Table(title="Weights kept per layer", rows=tuple(rows)),),
        curves=(
            Curve(
                title="Accuracy against weights remaining",
                name=name,
                x="prunable weights remaining, %",
                y=score,
                points=tuple((100 * r.remaining, r.score) for r in ticket.rounds),
            ),
        ),
    )


def _check(sparsity: float, rounds: int) -> None:
    if not 0 < sparsity < 1:
        raise SettingsError(f"sparsity must be in (0, 1), not {sparsity}", code="E204")
    if rounds < 1:
        raise SettingsError(f"rounds must be at least 1, not {rounds}", "1 is one-shot pruning", code="E204")


@dataclass(frozen=True)
class _Training:
    """One round's training as `remember` wants it: a function without arguments that gives plain values."""

    net: Net
    train: Train
    mask: Mask
    number: int

    def __call__(self) -> dict[str, Any]:
        score = self.train(self.net, self.mask, self.number)
        self.mask.check_zero(self.net)
        weights = {n: t.detach().cpu().clone() for n, t in self.net.state_dict().items()}
        return {"weights": weights, "score": float(score)}


def _weights(source: Net | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy a state without its masks: rewinding undoes training, not pruning."""
    state = source.state_dict() if isinstance(source, Net) else source
    return {name: tensor.detach().clone() for name, tensor in state.items() if not name.startswith(KEEP)}


def _rewind_(net: Net, start: Mapping[str, Tensor], mask: Mask) -> None:
    own = {n: t.shape for n, t in net.state_dict().items() if not n.startswith(KEEP)}
    wrong = [n for n in own if n not in start or start[n].shape != own[n]] + [n for n in start if n not in own]
    if wrong:
        raise ModelFileError(f"the rewind state does not fit the network: {', '.join(wrong[:5])}", code="E405")
    net.load_state_dict(start, strict=False)
    mask.store_(net)


def _share(name: str, part: int, whole: int, of: str) -> Measurement:
    return Measurement(name=name, value=100 * part / whole, unit="%", n=whole, of=of)
