"""A data set and a network so small that a whole pipeline takes seconds."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from effxfer.api.job import run_stage
from effxfer.api.sources import Source
from effxfer.artifact import Artifact
from effxfer.data.settings import DataSettings
from effxfer.net.settings import BackboneSettings
from effxfer.settings import build
from effxfer.stages import STAGES
from effxfer.stages.settings.base import StageSettings
from effxfer.stages.stage import Stage

CLASSES = ("blue", "green", "red")
TASK_CLASSES = ("colour/blue", "colour/green", "colour/red", "warm/no", "warm/yes")  # of `two_tasks`
BACKBONE = BackboneSettings(source="effxfer.net.cifar:resnet20", pretrained=False, size=16)
PLAIN = {"batch": 8, "augment": {"crop": "none", "flip": False}}
FIT = {"epochs": 8, "lr": 0.01, "warmup": 0.0, "keep": "last"}
QUICK = {
    "adapter": {},
    "bench": {"max_seconds": 0.2, "precision": 0.5, "cold": 0, "runtimes": ()},
    "clip": {"batch": 8, "width": 8, "shuffles": 1, "fit": FIT},
    "compete": {
        "candidates": {"full": {}, "probe": {"strategy": "probe"}},
        "options": PLAIN,
        "fit": {**FIT, "epochs": 3},
    },
    "continual": {"controls": "fast", "options": PLAIN, "fit": FIT},
    "curve": {"labels": (2, 4), "repeats": 1, "min_steps": 3, "options": PLAIN, "fit": {**FIT, "epochs": 2}},
    "export": {"latency_seconds": 0.2, "recipes": ["u8s8-7bit"], "calibration": 8},
    "finetune": {"options": PLAIN, "fit": FIT},
    "pretrain": {"options": {"batch": 16}, "fit": {"epochs": 2, "lr": 0.01, "warmup": 0.0}},
    "prune channels": {"ratio": 0.5, "scope": "layer", "round_to": 8, "options": PLAIN, "fit": {**FIT, "epochs": 2}},
    "prune compact": {"images": 8},
    "prune gradual": {"sparsity": 0.5, "every": 2, "options": PLAIN, "fit": {**FIT, "epochs": 2}},
    "prune lottery": {"sparsity": 0.5, "rounds": 2, "options": PLAIN, "fit": {**FIT, "epochs": 2}},
    "prune structured": {"ratio": 0.5, "rounds": 2, "round_to": 1, "options": PLAIN, "fit": {**FIT, "epochs": 2}},
    "prune vocabulary": {},
    "qat": {"options": PLAIN, "fit": {**FIT, "epochs": 2}},
    "search": {"trials": 4, "epochs": 3, "finalists": 1, "startup": 2, "latency": False},
    "shrink": {
        "latency_ratio": 0.9,
        "precision": "float32",
        "kinds": ["exit"],
        "timing_seconds": 0.1,
        "options": PLAIN,
        "fit": {**FIT, "epochs": 1},
    },
    "ticket": {},
    "transfer_report": {},
}


@dataclass(frozen=True, kw_only=True)
class Substitute(Stage):
    """A stage whose function comes from elsewhere.

    Attributes:
        loader: Gives the function, as `Stage.function` does.
    """

    loader: Callable[[], Callable[..., object]]

    def function(self) -> Callable[..., object]:
        """Ask the loader."""
        return self.loader()


def substitute(name: str, loader: Callable[[], Callable[..., object]]) -> Substitute:
    """Put another function in the place of a stage's own."""
    return Substitute(**vars(STAGES[name]), loader=loader)


def write_images(folder: Path, per_class: int = 20, seed: int = 0) -> Path:
    """Write noisy images whose class is their colour, PNG and JPEG in turn."""
    rng = np.random.default_rng(seed)
    for channel, name in zip((2, 1, 0), CLASSES, strict=True):
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            height, width = rng.integers(16, 25, 2)
            pixels = rng.integers(0, 80, (height, width, 3), dtype=np.uint8)
            pixels[..., channel] += np.uint8(150)
            image, kind = Image.fromarray(pixels), ("png", "jpg")[number % 2]
            image.save(folder / name / f"{number:02}.{kind}")
    return folder


def write_classes(file: Path) -> Path:
    """Write what is said about the classes of these images: how much of each colour."""
    rows = {"blue": (0.1, 0.2, 0.9), "green": (0.2, 0.9, 0.1), "red": (0.9, 0.1, 0.2), "white": (0.9, 0.9, 0.9)}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{name},{','.join(map(str, row))}\n" for name, row in rows.items()))
    return file


def two_tasks(folder: Path) -> DataSettings:
    """Write these images with a table of two tasks: their colour, and, for two of three, whether that is warm."""
    images = write_images(folder / "images")
    files = sorted(file for file in images.rglob("*") if file.is_file())
    warm = {"red": "yes", "green": "no", "blue": "no"}
    rows = [
        f"{file.relative_to(folder)},{file.parent.name},{warm[file.parent.name] if number % 3 else ''}"
        for number, file in enumerate(files)
    ]
    (folder / "tasks.csv").write_text("\n".join(["path,colour,warm", *rows]) + "\n")
    fractions = {"val_fraction": 0.2, "test_fraction": 0.2}
    return DataSettings(source=str(folder / "tasks.csv"), labels={"colour": "single", "warm": "single"}, **fractions)


def data_of(folder: Path, **more: object) -> DataSettings:
    """Name a folder with splits that are large enough to measure on."""
    return DataSettings(source=str(folder), val_fraction=0.2, test_fraction=0.2, **more)


def settings_of(stage: str, **changes: object) -> StageSettings:
    """Settings of a stage that runs in a second or two."""
    return build(STAGES[stage].settings, {**QUICK[stage], **changes}, stage)


def stage(name: str, source: Source, out: Path, data: DataSettings, **changes: object) -> Artifact:
    """Run a stage as the command line does, on the CPU."""
    force = bool(changes.pop("force", False))
    settings = {**QUICK[name], **changes}
    return run_stage(name, source, out=out, data=data, settings=settings, device="cpu", force=force).artifact


def cut_off(train: Callable[..., object], labels: list[str], at: str | int) -> Callable[..., object]:
    """Wrap a function that trains: it notes its labels, and stops once as at Ctrl-C, at a label or a call's number."""

    def stopped(*args: object, label: str, **more: object) -> object:
        labels.append(label)
        if len(labels) == at or (label == at and labels.count(label) == 1):
            raise KeyboardInterrupt
        return train(*args, label=label, **more)

    return stopped


def finetune(out: Path, data: DataSettings, **changes: object) -> Artifact:
    """Fine-tune the tiny backbone."""
    return stage("finetune", BACKBONE, out, data, **changes)
