"""Settings of the stages that have no file of their own; no heavy imports."""

from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field, field_validator

from effxfer.deploy.settings import ExportSettings
from effxfer.search.space import SearchSettings
from effxfer.stages.settings.base import Backbone, DistilledSettings, Seed, StageSettings, require_runtime

TICKET, ADAPTER = "ticket.safetensors", "adapter.safetensors"
FILES = {"fp32": "model.onnx", "int8": "model.int8.onnx"}
HF_FILES = {"fp32": "model.hf.onnx", "int8": "model.hf.int8.onnx"}
CLASSES = "classes.json"  # right decisions of the exported files by class
PICTURES = "mistakes.jpg"  # small pictures of the mistakes of the file to ship
SHIP = "model to ship: "
BOARD = "Leaderboard"
Controls = Literal["none", "fast", "full"]
Runtime = Literal["executorch", "litert", "openvino"]


class Finetune(DistilledSettings):
    """Fine-tune a network on a data set.

    Attributes:
        size: Side of the input images of this and later stages, in pixels; None keeps the current side.
        seconds: Time limit of the stage. Training is shortened, with its schedule, to as many of `fit.epochs` as fit.
            None: no limit.
    """

    several_tasks: ClassVar[bool] = True

    size: int | None = Field(default=None, ge=8, le=4096)
    seconds: float | None = Field(default=None, gt=0)


class LearningCurve(Finetune):
    """Fine-tune a network on growing subsets of the labels, to measure its learning curve.

    Attributes:
        labels: Training images per class, with separate training runs for each number. Numbers above the size of a
            class are skipped; the last run uses all images.
        repeats: Training runs for each number, each with different images and a different head.
        min_steps: Minimum number of training steps; small subsets are trained for more epochs to reach it.
    """

    takes: ClassVar[tuple[str, ...]] = ("single",)  # it counts labels per class

    # Each about twice the one before: accuracy grows roughly with the logarithm of the
    # labels (Sun et al. 2017, 1707.02968).
    labels: tuple[int, ...] = (1, 2, 5, 10, 20)
    # 3: the fewest with a middle one and a range.
    repeats: int = Field(default=3, ge=1, le=100)
    # Chosen, not measured: 5 images make one step per epoch, and so few steps leave a new head nearly random.
    min_steps: int = Field(default=50, ge=0)

    @field_validator("seconds")
    @classmethod
    def _no_limit(cls, value: float | None) -> float | None:
        if value is not None:
            raise ValueError("training runs on different numbers of labels must have the same length: set fit.epochs")
        return value

    @field_validator("labels")
    @classmethod
    def _ascend(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if list(value) != sorted(set(value)) or (value and value[0] < 1):
            raise ValueError("should be increasing whole numbers from 1 upwards")
        return value


class Search(SearchSettings, StageSettings):
    """Search for a head on the cached features of a frozen body.

    Attributes:
        seed: Random seed.
    """

    several_tasks: ClassVar[bool] = True

    seed: Seed = 0

    def check_resources(self) -> None:
        """Check that the trial storage is reachable.

        Raises:
            ResourceError: If the database server does not answer.
        """
        # Here and not above: settings are read without loading Optuna and its database drivers.
        from effxfer.search.storage.backends import check_backend

        check_backend(self.storage)


class Export(ExportSettings, StageSettings):
    """Export a verified ONNX model, and an int8 model if it is faster and accurate enough."""

    several_tasks: ClassVar[bool] = True

    def check_resources(self) -> None:
        """Check that the runtime of the files is installed.

        Raises:
            ResourceError: If it is not.
        """
        require_runtime(self.runtime)


class Bench(StageSettings):
    """Benchmark exported models against each other on this machine.

    Attributes:
        threads: Threads of runtimes and torch; 0 is one per core.
        batch: Images per call.
        sweep_threads: Additional numbers of threads to time every model with; empty for `threads` only.
        sweep_batches: Additional batch sizes to time every model with.
        runtimes: Other runtimes to time the models in, if they are installed: `executorch`, `litert`, `openvino`.
        cold: Number of cold starts per model: new processes, timed from start to first prediction; 0 for none.
        max_seconds: Time limit of all models together, and again for a sweep. Cold starts, memory measurements and
            conversions are not included.
        precision: Half-width of the confidence interval of the latency ratio at which measuring may stop.
        max_drop: Largest loss of the model to ship against the first model, in points of validation accuracy.
        max_class_drop: Largest loss of the model to ship in any class against the first model, in points of the class's
            validation accuracy; None: no limit.
        max_p50_ratio: Fail if the p50 of the model to ship divided by the first model's is above; None: no limit.
        max_mb: Fail if the file of the model to ship is larger than this many megabytes; None: no limit.
        seed: Random seed of the input, the order within rounds and the bootstrap.
    """

    # 1 thread: processor time is counted, which other programs disturb far less than a wall clock (guide/figures.md).
    threads: int = Field(default=1, ge=0)
    batch: int = Field(default=1, ge=1)
    sweep_threads: tuple[Annotated[int, Field(ge=1)], ...] = ()
    sweep_batches: tuple[Annotated[int, Field(ge=1)], ...] = ()
    # All by default: those that are not installed are left out with a note.
    runtimes: tuple[Runtime, ...] = get_args(Runtime)
    # 3 processes: their median survives one that met a cold disk; each costs a start of Python.
    cold: int = Field(default=3, ge=0, le=100)
    # A minute for all: chosen, not measured; `precision` ends it earlier where models are few and the machine is quiet.
    max_seconds: float = Field(default=60.0, gt=0)
    # Finer is pointless: a model differed from itself by up to 0.7 % in 20 comparisons (guide/figures.md).
    precision: float = Field(default=0.01, gt=0)
    # A point: about what MLPerf Inference allows a quantized network to lose (99 % of the float32 accuracy).
    max_drop: float = Field(default=1.0, ge=0)
    max_class_drop: float | None = Field(default=None, ge=0, le=100)
    max_p50_ratio: float | None = Field(default=None, gt=0)
    max_mb: float | None = Field(default=None, gt=0)
    seed: Seed = 0


class Rank(StageSettings):
    """Rank backbones on a data set without training.

    Attributes:
        backbones: Backbones to compare, each a source or a table with the keys of `[backbone]`.
        size: Input side of backbones without their own `size`, in pixels; None is the side of pretraining.
        by: Score to sort by: a key of `effxfer.transferability.SCORES`.
        images: Largest number of training images that the scores use, balanced over the classes.
        threads: Threads of ONNX Runtime; 0 is one per core.
        max_seconds: Time limit of the latency measurements of all backbones together.
        seed: Random seed of the choice of images, folds, clusters and the order of timing.
    """

    backbones: tuple[Backbone, ...] = Field(min_length=1)
    size: int | None = Field(default=None, ge=8, le=2048)
    # The probe: its scale, accuracy, needs no explanation; that others are cheaper matters little beside the features.
    by: Literal["h_score", "linear", "logme", "neighbours", "nleep"] = "linear"
    # Chosen, not measured: at 2,000 images an accuracy of 80 % has a standard error of
    # 0.9 points; time grows with them.
    images: int = Field(default=2000, ge=10)
    threads: int = Field(default=1, ge=0)
    # Half of `bench`, chosen: backbones differ by more than files of one network, so that a wider interval orders them.
    max_seconds: float = Field(default=30.0, gt=0)
    seed: Seed = 0
