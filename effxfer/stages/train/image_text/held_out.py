"""The constant of calibrated stacking of a dual encoder, chosen on known classes that are held out of training in turn.

Chao et al., 2016, https://arxiv.org/abs/1605.04253. New classes have no say.

Shape legend: N examples, E numbers of an embedding.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from effxfer.data.batches.batches import seed_of
from effxfer.data.labels.captions import Captions
from effxfer.data.task import Split, Task
from effxfer.net.heads.compare import Compare
from effxfer.report import Measurement, Report
from effxfer.runtime.outputs.single_label import SingleLabel
from effxfer.stages.train.image_text.towers import class_table, embed, new_heads
from effxfer.stages.train.zero_shot.controls import FOLDS, LEAST_CLASSES
from effxfer.stages.train.zero_shot.frozen_features import select_classes
from effxfer.stages.train.zero_shot.generalized import Scored, best_constant
from effxfer.train.state import Work

if TYPE_CHECKING:
    from effxfer.stages.train.image_text.clip import PairTrainer


def fit_constant(trainer: "PairTrainer", work: Work) -> Report:
    """Set the constant by which known classes are lowered beside new ones, by trainings without some known classes.

    Args:
        trainer: A trained pair with frozen towers; its heads are restored.
        work: Stores checkpoints.

    Returns:
        The constant; or a note why there is none. Nothing without new classes, or where nothing was learnt of known
        ones.
    """
    task, settings, head = trainer.task, trainer.settings, trainer.pair.image.head
    assert isinstance(head, Compare)
    learned = (task.train, task.val)
    if task.target is None or task.target.classes == task.classes or any((each.labels < 0).any() for each in learned):
        return Report()
    if not trainer.pair.is_new or not settings.fit.epochs:
        return Report(notes=("no calibration constant: the pair learnt nothing of the known classes here",))
    count = len(task.classes)
    folds = min(FOLDS, count // LEAST_CLASSES)
    if settings.towers != "none" or folds < LEAST_CLASSES:
        reason = "towers are trained" if settings.towers != "none" else f"{count} known classes are too few to hold out"
        return Report(notes=(f"no calibration constant: {reason}",))
    order = np.random.default_rng(seed_of(settings.seed, "held-out classes")).permutation(count)
    before = trainer.states()
    scored = [
        _score_fold(trainer, sorted(part.tolist()), work.part(f"held-out-{number}"))
        for number, part in enumerate(np.array_split(order, folds))
    ]
    new_heads(trainer.pair, settings, task.classes, settings.seed)
    trainer.restore(before)
    head = trainer.pair.image.head
    assert isinstance(head, Compare)
    head.calibration.fill_(best_constant(scored) * float(head.scale))
    return Report(rows=(Measurement(name="calibration constant", value=float(head.calibration)),))


def _score_fold(trainer: "PairTrainer", classes: Sequence[int], work: Work) -> Scored:
    """Learn from the images of other classes, and score both by cosines."""
    pair, settings, task = trainer.pair, trainer.settings, trainer.task
    remaining = [index for index in range(len(task.classes)) if index not in classes]
    new_heads(pair, settings, [task.classes[index] for index in remaining], settings.seed)
    reduced = _reduce_trainer(trainer, remaining)
    reduced.train(reduced.captions.of_images["train"], settings.seed, work, label="held-out classes")
    names = [task.classes[index] for index in (*remaining, *classes)]
    table = class_table(pair.text, names, settings.prompts, trainer.device).numpy()
    unseen = select_classes(_features(trainer, "train"), classes)
    val = reduced.task.val
    return Scored(
        seen_logits=_cosines(reduced, val.rows, table), seen_labels=val.labels,
        unseen_logits=_cosines(reduced, unseen.rows, table), unseen_labels=unseen.labels + len(remaining),
        known_count=len(remaining),
    )  # fmt: skip


def _reduce_trainer(trainer: "PairTrainer", remaining: Sequence[int]) -> "PairTrainer":
    """Return a trainer of the examples of some classes, whose features are known."""
    of_images, splits = dict(trainer.captions.of_images), dict[str, Split]()
    for name in ("train", "val"):
        split = _features(trainer, name)
        places = np.flatnonzero(np.isin(split.labels, remaining))
        splits[name] = select_classes(split, remaining)
        of_images[name] = [of_images[name][place] for place in places]
    output = SingleLabel(classes=tuple(trainer.task.classes[index] for index in remaining))
    task: Task = replace(trainer.task, output=output, train=splits["train"], val=splits["val"], target=None)
    stored = {name: torch.from_numpy(split.rows) for name, split in splits.items()} | {"text": trainer.features("text")}
    captions = Captions(texts=trainer.captions.texts, of_images=of_images)
    return replace(trainer, task=task, captions=captions, stored=stored)


def _features(trainer: "PairTrainer", name: str) -> Split:
    split: Split = getattr(trainer.task, name)
    return Split(rows=trainer.features(name).numpy(), labels=split.labels, names=split.names)


def _cosines(trainer: "PairTrainer", rows: NDArray[np.float32], table: NDArray[np.float32]) -> NDArray[np.float32]:
    cosines: NDArray[np.float32] = embed(trainer.pair.image, torch.from_numpy(rows)) @ table.T
    return cosines
