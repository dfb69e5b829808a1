"""Fine-tuning by fastai: its augmentation, its schedule, the head first for one epoch."""

from pathlib import Path

from torch import nn

from benchmarks.peers.case import Case


def train(case: Case, epochs: int) -> nn.Module:
    """Train as `Learner.fine_tune` does.

    Raises:
        ImportError: If fastai is not installed.
    """
    from fastai.vision.all import ImageDataLoaders, Learner, Normalize, Resize, accuracy, aug_transforms, params

    write_images(case, case.folder / "images")
    of, size = case.input, case.input.size
    loaders = ImageDataLoaders.from_folder(
        case.folder / "images", train="train", valid="val", item_tfms=Resize(size), bs=32, num_workers=0,
        batch_tfms=[*aug_transforms(size=size), Normalize.from_stats(of.mean, of.std)], seed=case.seed,
    )  # fmt: skip
    net = case.fresh()
    learner = Learner(
        loaders, net, metrics=accuracy, splitter=lambda whole: [params(whole.body), params(whole.head)]
    )  # fmt: skip
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(max(epochs - 1, 1))
    trained: nn.Module = learner.model.eval()
    return trained


def write_images(case: Case, root: Path) -> None:
    """Write both splits as folders of classes, numbered so that fastai sorts them as the head does."""
    from PIL import Image

    for name, split in (("train", case.task.train), ("val", case.task.val)):
        for row, label in enumerate(split.labels):
            folder = root / name / f"{label:05d}"
            folder.mkdir(parents=True, exist_ok=True)
            decode = split.decode_row
            assert decode is not None
            Image.fromarray(decode(row)).save(folder / f"{row}.png")
