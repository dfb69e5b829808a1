"""Settings of the stage that trains dual encoders of images and texts; no heavy imports."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator

from effxfer.data.labels.captions import PROMPTS, require_place
from effxfer.errors import SettingsError
from effxfer.net.settings import BackboneSettings
from effxfer.stages.settings.base import Backbone, Seed, StageSettings
from effxfer.train.settings import LR, TEXT_LR, FitSettings

Name = Annotated[str, Field(min_length=1)]
# Features of frozen towers cost nothing to go over again; chosen.
FIT = FitSettings(epochs=30)


class Clip(StageSettings):
    """Train a network of images and one of texts on pairs, so that captions and images have embeddings in one space.

    Attributes:
        text: The text tower: `hf:FOLDER`, a bundled encoder or a model directory. None is the tower that the network of
            images has, or `text-small`.
        towers: Which towers are trained beside their projections: `none`, whose features are computed once, `image`,
            `text` (locked-image tuning, Zhai et al., 2021, https://arxiv.org/abs/2111.07991) or `both`.
        objective: `infonce` is CLIP's softmax over the texts and the images of a batch; `sigmoid` is SigLIP's, which
            takes each pair by itself.
        width: Numbers of an embedding; a pair that is trained on keeps its own.
        batch: Pairs per step.
        augment: Augmentation of images, settings of `Augment`; for a trained image tower.
        prompts: Texts with `{}` where the name of a class goes; their embeddings are averaged. Where images have no
            captions, they are their captions.
        classes: Names of the classes that the network answers with, for data without labels; empty for the different
            captions.
        shuffles: Trainings with captions mixed up between images, as a control; for frozen towers.
        fit: Epochs, learning rate and schedule.
        size: Side of the input images of this and later stages, in pixels; None keeps the current side.
        seed: Random seed of the projections, the order of pairs, and augmentation.
    """

    takes: ClassVar[tuple[str, ...]] = ("single", "none")

    text: Backbone | None = None
    towers: Literal["none", "image", "text", "both"] = "none"
    objective: Literal["infonce", "sigmoid"] = "infonce"
    # Chosen, not measured: a quarter of CLIP's 512, as tables of classes travel with small files.
    width: int = Field(default=128, ge=2, le=4096)
    # Chosen: each pair is compared with all others, which frozen towers make cheap.
    batch: int = Field(default=256, ge=2)
    augment: dict[str, Any] = Field(default_factory=dict)
    prompts: tuple[Name, ...] = Field(default=PROMPTS, min_length=1)
    classes: tuple[Name, ...] = ()
    shuffles: int = Field(default=3, ge=0, le=100)
    fit: FitSettings = FIT
    size: int | None = Field(default=None, ge=8, le=4096)
    seed: Seed = 0

    @field_validator("prompts")
    @classmethod
    def _have_places(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            require_place(value)
        except SettingsError as error:
            raise ValueError(error.problem) from None
        return value

    @field_validator("classes")
    @classmethod
    def _differ(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError("should be different names")
        return value

    @property
    def networks(self) -> Mapping[str, tuple[BackboneSettings, ...]]:
        """The text tower."""
        return {} if self.text is None else {"text": (self.text,)}

    def for_input(self, kind: str) -> Self:
        """Choose the learning rate by what is trained, if there is none."""
        lr = self.fit.lr or (LR if self.towers == "none" else TEXT_LR)
        return self.model_copy(update={"fit": self.fit.model_copy(update={"lr": lr})})
