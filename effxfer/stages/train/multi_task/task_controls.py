"""Compare a network of several tasks with a network for each, with equal weights, and with hard sharing."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np

from effxfer.data.labels.tasks import select_tasks
from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.process.scratch import scratch_folder
from effxfer.report import Measurement, Report, Table
from effxfer.runtime.multi_task.task_outputs import TaskOutputs
from effxfer.stages.runner.onnx_timing import export_plain, time_in_turns
from effxfer.stages.settings.common import Finetune
from effxfer.stages.train.head import new_head
from effxfer.train.devices import Device
from effxfer.train.evaluate import predict
from effxfer.train.state import Work
from effxfer.transfer.base import Strategy
from effxfer.transfer.fine_tuning.freeze import Freeze
from effxfer.transfer.multi_task.multi_task import MultiTask

Row = dict[str, float]
TITLE = "One network for all tasks, and a network for each"
SHARED, EACH, EQUAL, HARD = "one network", "a network each", "equal weights", "hard sharing"
CONTROLS = {EQUAL: "equal-weights", HARD: "hard-sharing"}  # and where their training is stored
WEIGHS = ("weighting", "weights", "temperature", "alpha", "weight_lr", "c")
SHARES = ("sharing", "experts", "expert_width", "start")
TINY = 1.0  # point: a score of less says nothing that a change could be measured by


class TaskControls:
    """The controls of a multi-task training: a network for each task, with equal weights, and with hard sharing.

    Args:
        net: The network before training, with its heads; it is copied.
        initial: The network before the strategy gave it a body or a head; it is copied.
        tasks: Tasks of the stage.
        strategy: The strategy; nothing is compared if it has no controls.
        settings: Settings of the stage.
        device: Device of the training.
        work: Stores what was trained.
        controlled: Whether to compare at all.
    """

    def __init__(
        self, net: Net, initial: Net, tasks: Sequence[Task], strategy: Strategy, settings: Finetune, device: Device,
        work: Work, controlled: bool = True,
    ) -> None:  # fmt: skip
        self.task, self.strategy = (
            tasks[-1],
            strategy if isinstance(strategy, MultiTask) else MultiTask(controls="none"),
        )
        controlled = controlled and self.strategy.controls == "full"
        self.before = deepcopy(net).cpu() if controlled else None
        self.initial = self.before
        if controlled and self.strategy.sharing != "hard":
            self.initial = deepcopy(initial).cpu()
            self.initial.input = net.input
        self.settings, self.device, self.work = settings, device, work

    @property
    def trainings(self) -> int:
        """Number of trainings of this length, that of the network itself among them."""
        output = self.task.output
        tasks = len(output.names) if isinstance(output, TaskOutputs) else 0
        return 1 + tasks + len(self._reset_options()) if self.before else 1

    def _reset_options(self) -> dict[str, dict[str, Any]]:
        """Return the options that a control changes to their defaults, of each that the network is not itself."""
        fields = MultiTask.model_fields
        weighs = self.strategy.weighting != "equal" or bool(self.strategy.weights)
        names = {EQUAL: WEIGHS if weighs else (), HARD: SHARES if self.strategy.sharing != "hard" else ()}
        return {
            title: {name: fields[name].get_default(call_default_factory=True) for name in reset}
            for title, reset in names.items()
            if reset
        }

    def compare(self, net: Net, history: Sequence[Row], train: Callable[..., list[Row]]) -> Report:
        """Train the controls as long as the network, and report all of them.

        Args:
            net: The trained network.
            history: Rows of its training.
            train: `finetune.train`.
        """
        if not history or self.before is None:
            return Report()
        output = net.output
        assert isinstance(output, TaskOutputs)
        reached = {SHARED: self._scores(net, self.task)}
        epochs = len(history)
        reached[EACH] = {
            name: self.work.once(f"task-{number}", lambda n=name, k=number: self._train_single(n, k, epochs, train))  # type: ignore[misc]
            for number, name in enumerate(output.names)
        }
        for title in self._reset_options():
            reached[title] = self.work.once(CONTROLS[title], lambda t=title: self._train_control(t, epochs, train))  # type: ignore[misc]
        return self._report(reached, output) + self._costs(net, output)

    def _train_single(self, name: str, number: int, epochs: int, train: Callable[..., list[Row]]) -> dict[str, float]:
        task = select_tasks(self.task, (name,))
        net = self._single(task)
        self._train(net, task, self._plain(), f"task-{number}-training", f"{name} alone", epochs, train)
        return self._scores(net, task)

    def _single(self, task: Task) -> Net:
        net = self._start(self.initial)
        new_head(net, task, self.settings.seed)
        return net

    def _start(self, net: Net | None) -> Net:
        assert net is not None
        return deepcopy(net)

    def _train_control(self, title: str, epochs: int, train: Callable[..., list[Row]]) -> dict[str, float]:
        """Train a network with equal weights, or one whose tasks share the body alone."""
        net = self._start(self.before if title == EQUAL else self.initial)
        new_head(net, self.task, self.settings.seed)
        strategy = self.strategy.model_copy(update=self._reset_options()[title])
        self._train(net, self.task, strategy, f"{CONTROLS[title]}-training", title, epochs, train)
        return self._scores(net, self.task)

    def _train(
        self, net: Net, task: Task, strategy: Strategy, work: str, label: str, epochs: int,
        train: Callable[..., list[Row]],
    ) -> None:  # fmt: skip
        fit = self.settings.fit.model_copy(update={"epochs": epochs})
        train(net, [task], strategy, fit, device=self.device, seed=self.settings.seed, work=self.work.part(work),
              label=label)  # fmt: skip

    def _plain(self) -> Strategy:
        """Return the strategy of a network for one task: the same part of the body is trained."""
        common = {name: getattr(self.strategy, name) for name in Strategy.model_fields}
        return Freeze(until=self.strategy.freeze, **common)

    def _scores(self, net: Net, task: Task) -> dict[str, float]:
        """Return the main metric of each task on the test split, or on the validation split without one."""
        split = task.reported_splits.get("test", task.val)
        raw = predict(net, split.rows, net.input, self.device).numpy()
        if not isinstance(net.output, TaskOutputs):
            return {"": net.output.score(raw, split.labels).value}
        return {
            part.name: part.output.score(part.raw, part.labels).value for part in net.output.parts(raw, split.labels)
        }

    def _report(self, reached: Mapping[str, Any], output: TaskOutputs) -> Report:
        baseline = {name: scores[""] for name, scores in reached[EACH].items()}
        each = {**reached, EACH: baseline}
        split = "test" if len(self.task.test) else "val"
        rows = [
            {"task": name, "metric": output.outputs[name].metric}
            | {f"{title} %": round(scores.get(name, float("nan")), 2) for title, scores in each.items()}
            for name in output.names
        ]
        deltas = {title: delta_m(scores, baseline) for title, scores in each.items() if title != EACH}
        rows.append({"task": "delta m", "metric": "%"} | {f"{t} %": round(deltas.get(t, 0.0), 2) for t in each})
        worst = min(output.names, key=lambda name: each[SHARED].get(name, 0.0) - baseline[name])
        measured = [
            Measurement(name=f"delta m/{split}", value=deltas[SHARED], unit="%", n=len(output.names), of="tasks alone"),
            Measurement(
                name=f"worst task/{split}", value=each[SHARED].get(worst, 0.0) - baseline[worst], unit="points"
            ),
        ]
        measured += [
            Measurement(
                name=f"delta m/{split} {title}", value=deltas[title], unit="%", n=len(output.names), of="tasks alone"
            )
            for title in self._reset_options()
        ]
        notes = [f"the worst task, {worst!r}, is {measured[1].value:+.2f} points from its own network"]
        if EQUAL in deltas and deltas[EQUAL] > deltas[SHARED]:
            notes.append(f"equal weights are better than {self.strategy.weighting} here, by delta m: try the plain sum")
        if HARD in deltas and deltas[HARD] >= deltas[SHARED]:
            text = f"hard sharing is as good as {self.strategy.sharing} here or better, by delta m"
            notes.append(f"{text}: leave out options.sharing")
        table = Table(title=f"{TITLE}, {split}", rows=tuple(rows))
        return Report(rows=tuple(measured), tables=(table,), notes=tuple(notes))

    def _costs(self, net: Net, output: TaskOutputs) -> Report:
        """Time the one file against a file of each task, and compare their sizes."""
        if not self.device.leads:
            return Report()
        with scratch_folder() as folder:
            files = {SHARED: export_plain(net, folder / "one.onnx", rows=self.task.val.rows)}
            for number, name in enumerate(output.names):
                single = self._single(select_tasks(self.task, (name,)))
                files[name] = export_plain(single, folder / f"{number}.onnx", rows=self.task.val.rows)
            times = time_in_turns(files, 1, self.settings.seed)
            milliseconds = {name: timing.ms for name, timing in times.items()}
            sizes = {name: file.stat().st_size / 1e6 for name, file in files.items()}
        total, size = (sum(each[name] for name in output.names) for each in (milliseconds, sizes))
        return Report(rows=(
            Measurement(name="latency of one file", value=times[SHARED].ms, unit="ms", n=times[SHARED].n),
            Measurement(name="latency of a file each", value=total, unit="ms", n=len(output.names)),
            Measurement(name="latency ratio", value=times[SHARED].ms / total, unit="x"),
            Measurement(name="size of one file", value=sizes[SHARED], unit="MB"),
            Measurement(name="size of a file each", value=size, unit="MB", n=len(output.names)),
        ))  # fmt: skip


def delta_m(scores: Mapping[str, float], baseline: Mapping[str, float]) -> float:
    """Return the mean relative change of the tasks against a network for each, in percent; above 0 is better.

    Maninis et al., 2019, https://arxiv.org/abs/1904.08918. A score below a point counts as 1.

    Args:
        scores: Main metric of each task, in points.
        baseline: That of its own network.

    >>> round(delta_m({"a": 90.0, "b": 55.0}, {"a": 100.0, "b": 50.0}), 2)
    0.0
    """
    names = [name for name in baseline if name in scores]
    return float(np.mean([100 * (scores[name] - baseline[name]) / max(abs(baseline[name]), TINY) for name in names]))
