"""Compare a domain adaptation with training on the source alone, and the chosen epoch with the best one.

The target's labels are used for these figures only.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any

from effxfer.data.target import is_new
from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.report import Curve, Measurement, Report, Table
from effxfer.stages.settings.common import Finetune
from effxfer.train.devices import Device
from effxfer.train.evaluate import predict, score
from effxfer.train.state import Work
from effxfer.transfer.base import Strategy
from effxfer.transfer.domain_adaptation.a_distance import a_distance
from effxfer.transfer.fine_tuning.linear import Features

Row = dict[str, float]
TITLE = "Chosen epochs"
SOURCE_ONLY = "source only"


def compares_domains(strategy: Strategy, task: Task) -> bool:
    """Whether a strategy adapts to a target whose labels can be reported on."""
    return strategy.adapts_domain and task.target is not None and not is_new(task) and len(task.target.test) > 1


def target_accuracy(net: Net, task: Task, device: Device) -> Mapping[str, float]:
    """Return the accuracy on the target's test split as `target`, in points, for reports only."""
    assert task.target is not None
    return {"target": score(net, task.target.test, device)}


class SourceOnly:
    """The control of a domain adaptation: the same network, trained as long on the source alone.

    Args:
        net: The network before training; it is copied.
        tasks: Tasks of the stage.
        strategy: The strategy that adapts.
        settings: Settings of the stage.
        device: Device of the training.
        work: Stores checkpoints.
    """

    def __init__(
        self, net: Net, tasks: Sequence[Task], strategy: Strategy, settings: Finetune, device: Device, work: Work
    ) -> None:
        self.net, self.tasks, self.strategy = deepcopy(net), tasks, strategy
        self.settings, self.device, self.work = settings, device, work
        self.distance = self._distance(net)

    def compare(self, net: Net, history: Sequence[Row], train: Callable[..., list[Row]]) -> Report:
        """Train the control, and report both.

        Args:
            net: The adapted network.
            history: Rows of its training.
            train: `finetune.train`.
        """
        if not history:
            return Report()
        control = self.work.once("source-only", lambda: self._train(len(history), train))
        chosen = {"strategy": self._choice(history), SOURCE_ONLY: self._choice(control["history"])}
        rows = (
            Measurement(name="accuracy/target source only", value=control["target"], unit="%", n=control["n"],
                        of=net.input.unit),
            Measurement(name="accuracy/val source only", value=control["val"], unit="%", n=len(self.tasks[-1].val),
                        of=net.input.unit),
            Measurement(name="A-distance before", value=self.distance),
            Measurement(name="A-distance after", value=self._distance(net)),
            Measurement(name="oracle gap", value=chosen["strategy"]["gap"], unit="points"),
        )  # fmt: skip
        lines = {name: {"training": name, **choice} for name, choice in chosen.items()}
        histories = {"strategy": history, SOURCE_ONLY: control["history"]}
        return Report(
            rows=rows, tables=(Table(title=TITLE, rows=tuple(map(_readable, lines.values()))),),
            curves=tuple(_curve(name, each) for name, each in histories.items()),
            notes=self._warnings(chosen),
        )  # fmt: skip

    def _train(self, epochs: int, train: Callable[..., list[Row]]) -> dict[str, Any]:
        task, fit = self.tasks[-1], self.settings.fit.model_copy(update={"epochs": epochs})
        history = train(
            self.net, self.tasks, self.strategy.source_only(), fit, device=self.device, seed=self.settings.seed,
            work=self.work.part("source-only-training"), label=SOURCE_ONLY,
            observe=lambda: target_accuracy(self.net, task, self.device),
        )  # fmt: skip
        assert task.target is not None
        reached = target_accuracy(self.net, task, self.device)["target"]
        val = score(self.net, task.val, self.device)
        return {"history": history, "target": reached, "val": val, "n": len(task.target.test)}

    def _choice(self, history: Sequence[Row]) -> dict[str, Any]:
        """Return the chosen epoch and the best one, with their accuracies on the target."""
        best = max(range(len(history)), key=lambda epoch: history[epoch]["target"])
        chosen = len(history) - 1
        if self.settings.fit.keep == "best":
            chosen = max(range(len(history)), key=lambda epoch: history[epoch]["score"])
        reached, oracle = history[chosen]["target"], history[best]["target"]
        return {
            "validator": self.strategy.validator, "score": history[chosen]["score"],
            "epoch": int(history[chosen]["epoch"]),
            "target %": reached, "oracle epoch": int(history[best]["epoch"]), "oracle target %": oracle,
            "gap": oracle - reached,
        }  # fmt: skip

    def _warnings(self, chosen: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
        adapted, control_score = (chosen[name]["score"] for name in ("strategy", SOURCE_ONLY))
        note = "the target's labels were used for figures only: the oracle's epoch, and the gap to it"
        if adapted >= control_score:
            return (note,)
        text = f"the adapted network is worse than source only by the validator {self.strategy.validator!r}: "
        return (f"{text}{adapted:.4g} against {control_score:.4g}; a smaller weight may help", note)

    def _distance(self, net: Net) -> float:
        task = self.tasks[-1]
        assert task.target is not None
        features = Features(net)
        source, target = (predict(features, s.rows, net.input, self.device) for s in (task.val, task.target.test))
        return a_distance(source, target)


def _curve(name: str, history: Sequence[Row]) -> Curve:
    points = tuple((row["epoch"], row["target"]) for row in history)
    return Curve(
        title="Accuracy on the target, for the report only", name=name, x="epoch", y="accuracy, %", points=points
    )


def _readable(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()}
