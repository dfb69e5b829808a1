"""Settings of every stage; light, so that a whole pipeline is checked before torch is loaded."""

from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator

from effxfer.deploy.settings import ExportSettings
from effxfer.search.space import SearchSettings
from effxfer.stages.settings.base import Backbone, DistilledSettings, Seed, StageSettings

METRICS = "metrics.jsonl"
TICKET, ADAPTER = "ticket.safetensors", "adapter.safetensors"
FILES = {"fp32": "model.onnx", "int8": "model.int8.onnx"}
SHIP = "model to ship: "
BOARD = "Leaderboard"
Controls = Literal["none", "fast", "full"]
Runtime = Literal["executorch", "litert", "openvino"]


class Finetune(DistilledSettings):
    """Adapt a network to tasks.

    Attributes:
        size: Side of the images from here on, in pixels; None leaves it.
        seconds: Time for the whole stage; of `fit.epochs` and their schedule, as much is done as fits. None: no limit.
    """

    size: int | None = Field(default=None, ge=8, le=4096)
    seconds: float | None = Field(default=None, gt=0)


class LearningCurve(Finetune):
    """Adapt a network to few labels, to more, and at last to all, to see how quickly it learns.

    Attributes:
        labels: Training images per class, each number a training of its own; those that a class lacks are left out.
        repeats: Trainings for each number, each on other images and with another head.
        min_steps: Trainings on so few images that `fit.epochs` are fewer steps than this get more epochs.
    """

    labels: tuple[int, ...] = (1, 2, 5, 10, 20)
    repeats: int = Field(default=3, ge=1, le=100)
    min_steps: int = Field(default=50, ge=0)

    @field_validator("seconds")
    @classmethod
    def _no_limit(cls, value: float | None) -> float | None:
        if value is not None:
            raise ValueError(
                "trainings on different numbers of labels are compared at the same length: give fit.epochs"
            )
        return value

    @field_validator("labels")
    @classmethod
    def _ascend(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if list(value) != sorted(set(value)) or (value and value[0] < 1):
            raise ValueError("should be numbers from 1 up, each larger than the one before")
        return value


class Search(SearchSettings, StageSettings):
    """Search the head on frozen features.

    Attributes:
        seed: Of everything random.
    """

    seed: Seed = 0

    def check_resources(self) -> None:
        """Make sure that trials can be kept where `storage` says.

        Raises:
            ResourceError: If a server does not answer.
        """
        from effxfer.search.storage.backends import check_backend

        check_backend(self.storage)


class Export(ExportSettings, StageSettings):
    """Write an ONNX model, and an int8 one if it is faster and accurate enough: see `ExportSettings`."""


class Bench(StageSettings):
    """Time exported models against each other on this machine.

    Attributes:
        threads: Of ONNX Runtime and torch; 0 is one per core.
        batch: Images per call.
        sweep_threads: Time every model with each of these numbers of threads as well; empty for `threads` alone.
        sweep_batches: And with each of these batches.
        runtimes: Other runtimes to time the models in, where they are installed: `executorch`, `litert`, `openvino`.
        cold: Fresh processes per model in which the time from start to first answer is measured; 0 for none.
        max_seconds: Time for all models together, and as much again for a sweep; cold starts, memory and conversions
            come on top.
        precision: Half-width of the ratio's interval at which measuring may stop.
        max_drop: Points of validation accuracy that the model to ship may lose against the first one.
        max_p50_ratio: Fail if the p50 of the model to ship is more than this share of the first one's; None: no limit.
        max_mb: Fail if the file of the model to ship is larger than so many megabytes; None is no limit.
        seed: Of the input's values, the order within rounds, and the bootstrap.
    """

    threads: int = Field(default=1, ge=0)
    batch: int = Field(default=1, ge=1)
    sweep_threads: tuple[Annotated[int, Field(ge=1)], ...] = ()
    sweep_batches: tuple[Annotated[int, Field(ge=1)], ...] = ()
    runtimes: tuple[Runtime, ...] = get_args(Runtime)
    cold: int = Field(default=3, ge=0, le=100)
    max_seconds: float = Field(default=60.0, gt=0)
    precision: float = Field(default=0.01, gt=0)
    max_drop: float = Field(default=1.0, ge=0)
    max_p50_ratio: float | None = Field(default=None, gt=0)
    max_mb: float | None = Field(default=None, gt=0)
    seed: Seed = 0


class Rank(StageSettings):
    """Compare backbones on a task before anything is trained.

    Attributes:
        backbones: Each a source, or a table as `[backbone]` is.
        size: Side of the images for those that do not say; None is what each was trained with.
        by: The score that orders them: a key of `effxfer.transferability.SCORES`.
        images: Training images that scores look at, at most, of each class alike.
        threads: Of ONNX Runtime; 0 is one per core.
        max_seconds: Time for measuring latency of all of them together.
        seed: Of the choice of images, of folds and clusters, and of the timing's order.
    """

    backbones: tuple[Backbone, ...] = Field(min_length=1)
    size: int | None = Field(default=None, ge=8, le=2048)
    by: Literal["h_score", "linear", "logme", "neighbours", "nleep"] = "linear"
    images: int = Field(default=2000, ge=10)
    threads: int = Field(default=1, ge=0)
    max_seconds: float = Field(default=30.0, gt=0)
    seed: Seed = 0
