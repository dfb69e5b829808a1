"""Train a dual encoder on pairs of images and captions (CLIP: Radford et al., 2021).

https://arxiv.org/abs/2103.00020.

Shape legend: N images, M different captions, D features, E numbers of an embedding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from effxfer.data.batches.augment import Augment
from effxfer.data.batches.batches import seed_of
from effxfer.data.labels.captions import Captions, captions_of, with_caption_labels
from effxfer.data.task import Task
from effxfer.errors import SettingsError
from effxfer.net.net import Net
from effxfer.report import Measurement, Report
from effxfer.settings import build
from effxfer.stages.settings.clip_settings import Clip
from effxfer.stages.train.finetune import accuracy_report, training_curves
from effxfer.stages.train.image_text.held_out import fit_constant
from effxfer.stages.train.image_text.pairs import (
    Look,
    draw_pairs,
    look_at_images,
    look_up,
    read_texts,
    require_pairs,
    shuffle_captions,
)
from effxfer.stages.train.image_text.towers import (
    Pair,
    class_table,
    embed,
    image_features,
    new_heads,
    open_pair,
    set_classes,
    standardize_towers,
    token_rows,
    with_embedded_classes,
)
from effxfer.train.channels_last import channels_last
from effxfer.train.devices import Device
from effxfer.train.fit import Row, fit
from effxfer.train.state import Work, clone
from effxfer.transfer.image_text.contrastive import largest_scale
from effxfer.transfer.image_text.dual_encoder import LARGEST_SCALE, DualEncoder, loss_of
from effxfer.transfer.image_text.recall import recall_rows, recalls

TITLE = "recall@1, mean of both directions"


def clip(net: Net, tasks: Sequence[Task], settings: Clip, *, device: Device, work: Work) -> tuple[Net, Report]:
    """Train a network of images and its text tower on the pairs of the last of `tasks`.

    Args:
        net: Network of images, changed in place. It gets a head that compares images with the embeddings of class
            names, and the text tower that makes these.
        tasks: The last one has captions, or classes whose names are their captions; a target of new classes is for
            reports alone.
        settings: The text tower, what is trained, and how.
        device: Device of the training.
        work: Stores checkpoints.

    Returns:
        The network, and a report: recall at 1 and 5 on validation and test pairs in both directions, the accuracy among
        class names where images have labels, and what training on mixed-up captions gives.

    Raises:
        SettingsError: If a setting does not suit the data or the networks, or the network takes no images.
        DataError: `E347` if there is one caption alone.
        GateError: If training diverges.
    """
    if net.input.kind != "image":
        text = f"clip starts from a network of images, this one takes {net.input.unit}"
        raise SettingsError(text, "name an image backbone as the source, and the encoder of texts by `text`")
    task = with_caption_labels(tasks[-1], settings.classes)
    captions = captions_of(task, settings.prompts)
    require_pairs(captions.of_images["train"], task.name)
    if settings.size:
        net.set_input_size(settings.size)
    pair = open_pair(net.to(device.torch), settings, task.classes)
    pair.text.to(device.torch)
    trainer = PairTrainer(pair=pair, task=task, captions=captions, settings=settings, device=device)
    history = trainer.train(captions.of_images["train"], settings.seed, work)
    constant = fit_constant(trainer, work)
    report = trainer.report() + constant + training_curves(history, title=TITLE) + trainer.shuffle_report(work)
    pair.text.cpu().eval()
    return net, report + Report(notes=(*pair.notes, *_notes(settings)))


def _notes(settings: Clip) -> tuple[str, ...]:
    frozen = settings.towers == "none"
    return () if frozen or not settings.shuffles else ("no control with mixed-up captions: towers are trained",)


@dataclass(frozen=True, kw_only=True, eq=False)
class PairTrainer:
    """Trains and measures a pair on the captions of a task.

    Attributes:
        pair: The two networks.
        task: Task of images.
        captions: Its captions.
        settings: Settings of the stage.
        device: Device of the training.
        stored: Features of frozen towers, by split of images, and of captions by `text`.
    """

    pair: Pair
    task: Task
    captions: Captions
    settings: Clip
    device: Device
    stored: dict[str, Tensor] = field(default_factory=dict)

    def trains(self, tower: str) -> bool:
        """Whether a tower is trained, `image` or `text`."""
        return self.settings.towers in (tower, "both")

    def features(self, name: str) -> Tensor:
        """Return features on the CPU: of the images of a split `(N, D)`, or as `text` of all captions `(M, D)`."""
        if name in self.stored:
            return self.stored[name]
        of_text = name == "text"
        net = self.pair.text if of_text else self.pair.image
        rows = token_rows(net, self.captions.texts) if of_text else getattr(self.task, name).rows
        computed = image_features(net, rows, self.device)
        if not self.trains("text" if of_text else "image"):
            self.stored[name] = computed
        return computed

    def train(
        self, captions: Sequence[tuple[int, ...]], seed: int, work: Work, label: str = "train", *, chosen: bool = True
    ) -> list[Row]:
        """Train on the training images with these captions; set scale and table of both heads.

        Unless `chosen`, the last epoch counts: validation pairs would tell a control which captions are right.
        """
        pair, device, settings = self.pair, self.device, self.settings
        if not pair.is_new and not settings.fit.epochs:  # zero-shot: no training image is looked at
            set_classes(pair, self._table(self.task.classes), float(pair.image.head.get_buffer("scale")))
            return []
        if pair.is_new:
            used = sorted({place for own in captions for place in own})
            standardize_towers(pair, self.features("train"), self.features("text")[used])
        learner = DualEncoder(pair.image, pair.text, settings.towers, settings.objective).to(device.torch)
        if not pair.is_new:
            learner.log_scale.data.copy_(pair.image.head.get_buffer("scale").log())
        torch.manual_seed(seed)
        draw = draw_pairs(self._images(), self._texts(), captions, settings.batch, device.torch)
        with channels_last(learner):
            history = fit(
                learner, draw, loss_of, settings.fit, device=device, seed=seed, work=work, label=label, most_parts=1,
                after_step=lambda _step: largest_scale(learner.log_scale, LARGEST_SCALE),
                validate=self._judge if chosen else None,
            )  # fmt: skip
        set_classes(pair, self._table(self.task.classes), float(learner.log_scale.detach().exp()))
        for net in (pair.image, pair.text):
            net.requires_grad_(True)
        return history

    def _images(self) -> Look:
        augment = build(Augment, self.settings.augment, "augment")
        if self.trains("image"):
            return look_at_images(self.task, augment, self.device.torch)
        if augment != Augment():
            raise SettingsError("augment has no effect: the image tower is frozen", "train it by `towers`")
        return look_up(self.features("train"), self.device.torch)

    def _texts(self) -> Look:
        if self.trains("text"):
            return read_texts(self.pair.text, token_rows(self.pair.text, self.captions.texts), self.device.torch)
        return look_up(self.features("text"), self.device.torch)

    def _table(self, classes: Sequence[str]) -> Tensor:
        return class_table(self.pair.text, classes, self.settings.prompts, self.device)

    def embeddings(self, split: str) -> tuple[NDArray[np.float32], NDArray[np.float32], list[list[int]]]:
        """Return embeddings of a split's images and of its different captions, and which captions are whose."""
        used, of_images = self.captions.of_split(split)
        texts = embed(self.pair.text, self.features("text")[used])
        return embed(self.pair.image, self.features(split)), texts, of_images

    def _judge(self) -> float:
        every = recalls(*self.embeddings("val"))
        return float(np.mean([value for (k, _), value in every.items() if k == 1]))

    def report(self) -> Report:
        """Measure retrieval on validation and test pairs, and the accuracy among class names where there are labels."""
        rows = [row for name in self.task.reported_splits for row in recall_rows(*self.embeddings(name), name)]
        rows.append(Measurement(name="temperature", value=1 / float(self.pair.image.head.get_buffer("scale"))))
        return Report(rows=tuple(rows)) + self._accuracies()

    def _accuracies(self) -> Report:
        """Report the accuracy among class names; of new classes of a target, too."""
        splits = self.task.reported_splits.values()
        if any((split.labels < 0).any() for split in splits):
            return Report(notes=("no accuracy among classes: captions of some images are none of them",))
        task = with_embedded_classes(self.pair.image, self.task, self.device)
        return accuracy_report(self.pair.image, task, self.device)

    def shuffle_report(self, work: Work) -> Report:
        """Report what is learnt of captions that are mixed up between images, and undo it; of frozen towers alone."""
        count, before = self.settings.shuffles, self.states()
        if self.settings.towers != "none" or not self.settings.fit.epochs or not self.pair.is_new or not count:
            return Report()
        figures: dict[str, list[float]] = {}
        for number in range(count):
            seed = seed_of(self.settings.seed, "shuffle", number) % 2**32
            new_heads(self.pair, self.settings, self.task.classes, seed)
            mixed = shuffle_captions(self.captions.of_images["train"], seed)
            self.train(mixed, seed, work.part(f"shuffle-{number}"), label="captions mixed up", chosen=False)
            for row in self.report().rows:
                if row.unit == "%" and row.name.startswith(("recall@1", "accuracy")):
                    figures.setdefault(row.name, []).append(row.value)
        self.restore(before)
        of = f"{count} trainings on captions mixed up"
        return Report(
            rows=tuple(Measurement.spread(f"{name} shuffled", values, "%", of) for name, values in figures.items())
        )

    def states(self) -> list[dict[str, Tensor]]:
        """Copy the states of both heads."""
        return [clone(net.head) for net in (self.pair.image, self.pair.text)]

    def restore(self, states: Sequence[Mapping[str, Tensor]]) -> None:
        """Load the states of both heads."""
        for net, state in zip((self.pair.image, self.pair.text), states, strict=True):
            net.head.load_state_dict(state)
