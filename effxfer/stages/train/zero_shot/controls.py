"""After a zero-shot strategy: likely probabilities, the constant of calibrated stacking, and shuffled classes.

The constant is chosen on known classes that are held out in turn, never on new ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from effxfer.data.batches.batches import seed_of
from effxfer.data.target import concat_splits
from effxfer.data.task import Task
from effxfer.net.heads.compare import Compare
from effxfer.net.net import Net
from effxfer.report import Measurement, Report
from effxfer.stages.settings.common import Finetune
from effxfer.stages.train.head import new_head
from effxfer.stages.train.zero_shot.frozen_features import FrozenFeatures, compare, select_classes
from effxfer.stages.train.zero_shot.generalized import Scored, best_constant, per_class_accuracy
from effxfer.train.devices import Device
from effxfer.train.evaluate import predict
from effxfer.train.fit import Row
from effxfer.train.state import Work
from effxfer.transfer.base import Strategy
from effxfer.transfer.fine_tuning.linear import Features
from effxfer.transfer.zero_shot.known_classes import fit_scale_

# As in the paper, which cross-validates in five parts; a part has two classes at least, so that they can be confused.
FOLDS, LEAST_CLASSES = 5, 2
# Chosen: the range of three shows whether one was lucky.
SHUFFLES = 3
Train = Callable[..., list[Row]]


class ZeroShotControls:
    """What follows a zero-shot strategy, on the frozen features of a trained network.

    Args:
        net: The trained network; its head gets a scale and a constant.
        task: Task with class embeddings.
        strategy: The strategy that trained it.
        settings: Settings of the stage.
        device: Device of the training.
        train: `finetune.train`.
    """

    def __init__(
        self, net: Net, task: Task, strategy: Strategy, settings: Finetune, device: Device, train: Train
    ) -> None:
        self.net, self.task, self.strategy, self.settings = net, task, strategy, settings
        self.device, self.train = device, train
        self.frozen = FrozenFeatures.of(net, task, device)

    def complete(self) -> Report:
        """Set the scale and the constant of the head, and report on shuffled classes."""
        head = self.net.head
        assert isinstance(head, Compare)
        constant, note = self._constant()
        val = self.frozen.task.val
        torch_device = head.table.device
        scale = fit_scale_(
            head, torch.from_numpy(val.rows).to(torch_device), torch.from_numpy(val.labels).to(torch_device)
        )
        head.calibration.fill_(constant * scale)
        rows = (Measurement(name="calibration constant", value=float(head.calibration)),)
        return Report(rows=rows, notes=note) + self._shuffle_report()

    def _constant(self) -> tuple[float, tuple[str, ...]]:
        """Choose the constant on folds of known classes, in units of unscaled logits."""
        count = len(self.task.classes)
        folds = min(FOLDS, count // LEAST_CLASSES)
        if folds < LEAST_CLASSES:
            text = f"{count} known classes are too few to hold some out: known and new ones are compared as they are"
            return 0.0, (text,)
        order = np.random.default_rng(seed_of(self.settings.seed, "held-out classes")).permutation(count)
        return best_constant([self._score_fold(sorted(part.tolist())) for part in np.array_split(order, folds)]), ()

    def _score_fold(self, classes: Sequence[int]) -> Scored:
        """Learn from the other classes, and score both."""
        task = self.frozen.drop_classes(classes)
        net = self._train_on(task)
        rows = self.frozen.task.class_embeddings
        assert rows is not None
        assert task.class_embeddings is not None
        table = np.concatenate([task.class_embeddings, rows[list(classes)]])
        unseen = select_classes(self.frozen.task.train, classes)
        known_count = len(task.classes)
        return Scored(
            seen_logits=compare(net, task.val.rows, table), seen_labels=task.val.labels,
            unseen_logits=compare(net, unseen.rows, table), unseen_labels=unseen.labels + known_count,
            known_count=known_count,
        )  # fmt: skip

    def _train_on(self, task: Task) -> Net:
        net = self.frozen.net()
        new_head(net, task, self.settings.seed, self.strategy.head())
        self.train(
            net, [task], self.strategy, self.settings.fit, device=self.device, seed=self.settings.seed,
            work=Work(None), label="held-out classes",
        )  # fmt: skip
        return net

    def _shuffle_report(self) -> Report:
        """Report the accuracy on new classes of networks that learnt shuffled class embeddings."""
        target, rows = self.task.target, self.frozen.task.class_embeddings
        if target is None or target.class_embeddings is None or target.classes == self.task.classes:
            return Report()
        assert rows is not None
        split = concat_splits(target)
        features = predict(Features(self.net), split.rows, self.net.input, self.device).numpy()
        every, accuracies = np.concatenate([rows, target.class_embeddings]), list[float]()
        for number in range(SHUFFLES):
            mixed = np.random.default_rng(seed_of(self.settings.seed, "shuffle", number)).permutation(every)
            net = self._train_on(replace(self.frozen.task, class_embeddings=mixed[: len(rows)]))
            accuracies.append(per_class_accuracy(compare(net, features, mixed[len(rows) :]), split.labels))
        name = "accuracy/target class embeddings shuffled"
        return Report(rows=(Measurement.spread(name, accuracies, "%", f"{self.net.input.unit}, all classes alike"),))
