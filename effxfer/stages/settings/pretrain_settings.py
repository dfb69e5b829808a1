"""Settings of the stage that learns without labels; no heavy imports."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field

from effxfer.settings import Settings
from effxfer.stages.settings.base import TrainedSettings
from effxfer.train.settings import FitSettings

STRATEGY = {"image": "vicreg", "text": "mlm", "vector": "mlm"}
# Texts: a tenth of BERT's epochs, chosen, because texts of one's own are few; and its clipping.
FITS: dict[str, dict[str, int | float]] = {"image": {"epochs": 20, "clip": 0.0}, "text": {"epochs": 4, "clip": 1.0}}


class PretrainFit(FitSettings):
    """Settings of the training loop whose defaults depend on the kind of example.

    Attributes:
        epochs: Passes over the training split; None is 20 for images and 4 for texts.
        clip: Maximum gradient norm, 0 is off; None is 0 for images and 1 for texts.
    """

    epochs: int | None = Field(default=None, ge=0, le=10_000)  # type: ignore[assignment]
    clip: float | None = Field(default=None, ge=0)  # type: ignore[assignment]

    def for_kind(self, kind: str) -> Self:
        """Choose what is None; other kinds, which are refused later, have the numbers of images."""
        usual = FITS.get(kind, FITS["image"])
        return self.model_copy(update={name: usual[name] for name in usual if getattr(self, name) is None})


class SentenceTeacher(Settings):
    """Distillation of a text encoder's vectors; a plain text is the source.

    Attributes:
        source: Text encoder whose pooled vectors the network learns beside the hidden tokens: a model directory, or
            `hf:FOLDER`.
        weight: Of the added loss, above 0: one minus the cosine of the network's vector and the teacher's, which is
            brought to the network's width by its principal components.
    """

    source: str = Field(min_length=1)
    # The loss of hidden tokens begins near 8 and ends near 4, a cosine between 0 and 1.
    weight: float = Field(default=10.0, gt=0, le=1000)


def _teacher(value: object) -> object:
    """Convert a plain name into the settings of a teacher."""
    return {"source": value} if isinstance(value, str) else value


class Pretrain(TrainedSettings):
    """Train a backbone on examples without labels; every later stage takes the result as its backbone.

    Attributes:
        strategy: A key of `effxfer.transfer.SELF_SUPERVISED`; None is `mlm` for texts and `vicreg` for images.
        fit: Epochs, learning rate and schedule.
        size: Most tokens of a text, or side of images in pixels, in this and later stages; None keeps the present one.
        seconds: Time limit of the stage. Training is shortened, with its schedule, to as many of `fit.epochs` as fit.
            None: no limit.
        teacher: A larger text encoder whose vectors the network learns, too; None for none.
        precision: Of the stored weights; float16 halves the file, and later stages compute in float32 as ever.
    """

    without_labels: ClassVar[bool] = True

    strategy: str | None = None  # type: ignore[assignment]
    fit: PretrainFit = PretrainFit()
    size: int | None = Field(default=None, ge=8, le=4096)
    seconds: float | None = Field(default=None, gt=0)
    teacher: Annotated[SentenceTeacher | None, BeforeValidator(_teacher)] = None
    precision: Literal["float32", "float16"] = "float32"

    def for_input(self, kind: str) -> Self:
        """Choose strategy, epochs and learning rate by the kind of input, where they are not given."""
        chosen = {"strategy": self.strategy or STRATEGY[kind], "fit": self.fit.for_kind(kind)}
        return super(Pretrain, self.model_copy(update=chosen)).for_input(kind)
