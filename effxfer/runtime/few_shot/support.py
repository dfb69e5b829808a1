"""Teach an exported model new classes on the device, from a few images of each.

>>> model = learn(Model("model.onnx"), read_support("photos/of/mine"))  # doctest: +SKIP
>>> model.predict(["photo.jpg"])[0].label  # doctest: +SKIP
'my cup'
>>> enroll(Model("model.onnx"), "photos/of/mine")  # writes model.classes.npz  # doctest: +SKIP
>>> model = open_classes(Model("model.onnx"), "model.classes.npz")  # doctest: +SKIP
"""

import os
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effxfer.runtime.few_shot.enrolled_classes import HINT, SUFFIX, EnrolledClasses, read_enrolled
from effxfer.runtime.few_shot.rejection import read_rejection
from effxfer.runtime.images.names import is_image, is_litter
from effxfer.runtime.images.preprocess import ImageError
from effxfer.runtime.model import Model, Source
from effxfer.runtime.model_file.metadata import FEATURES, ModelError
from effxfer.runtime.outputs.predictions import UnknownPrediction

FOLDERS = "give a folder that holds a folder of images for each class"


class EnrolledModel(Model):
    """A model of classes that were learned on the device; examples that are near to none of them are unknown.

    Args:
        model: The opened file.
        enrolled: The classes.

    Raises:
        ModelError: If the file takes no classes, or they are of another model (`E428`).
    """

    def __init__(self, model: Model, enrolled: EnrolledClasses) -> None:
        if enrolled.key != model.metadata.key:
            raise ModelError(f"the classes were enrolled with another model than {model.path}", HINT, code="E428")
        self.__dict__.update(vars(model.with_prototypes(enrolled.prototypes, enrolled.labels)))
        self.enrolled = enrolled
        self.rejection = read_rejection(self.metadata.extra)

    def with_prototypes(self, prototypes: NDArray[np.float32], labels: Sequence[str]) -> Model:
        """Return a model for other classes; see `Model.with_prototypes`."""
        model = Model.__new__(Model)
        model.__dict__.update({key: value for key, value in vars(self).items() if key not in ("enrolled", "rejection")})
        return model.with_prototypes(prototypes, labels)

    def predict_feeds(self, feeds: Sequence[NDArray[Any]], names: Sequence[str], top: int, batch: int) -> list[Any]:
        """Predict decoded examples; see `Model.predict_feeds`. Those of no class are an `UnknownPrediction`."""
        predictions = super().predict_feeds(feeds, names, top, batch)
        if self.rejection is None:
            return predictions
        features = [self.run(feed[None], FEATURES) for feed in feeds]
        accepted = self.rejection.accepts(np.concatenate(features), self.enrolled.prototypes, self.enrolled.shots)
        pairs = zip(predictions, accepted, strict=True)
        return [prediction if is_known else UnknownPrediction(prediction.top) for prediction, is_known in pairs]


def read_support(folder: str | Path) -> dict[str, list[Path]]:
    """List the images of a folder of class folders, by class.

    Raises:
        ImageError: If the folder does not exist, has no class, a class has no images, or two classes differ only in
            spelling (`E310`); or if a folder cannot be read (`E319`).
    """
    root = Path(folder)
    if not os.path.isdir(root):  # noqa: PTH112 (never raises)
        raise ImageError(f"no folder {root}", FOLDERS, code="E310")
    try:
        classes = sorted(p for p in root.iterdir() if p.is_dir() and not is_litter(p.name))
        support = {path.name: sorted(p for p in path.iterdir() if _is_image(p)) for path in classes}
        empty = [path for path in classes if not support[path.name]]
        files = sorted(p.name for p in (empty[0] if empty else root).iterdir() if p.is_file())
    except OSError as error:
        raise ImageError(f"{error.filename} cannot be read: {error.strerror}", FOLDERS, code="E319") from None
    if not support or empty:
        problem = f"no images in {empty[0]}" if empty else f"{root} holds no class folder"
        raise ImageError(f"{problem}, only {files[0]}" if files else problem, FOLDERS, code="E310")
    _require_distinct(support, root)
    return support


def _require_distinct(support: Mapping[str, object], root: Path) -> None:
    spellings = dict[str, str]()
    for name in support:
        first = spellings.setdefault(unicodedata.normalize("NFKC", name).casefold().strip(), name)
        if first != name:
            problem = f"classes {first!r} and {name!r} in {root} differ only in spelling"
            raise ImageError(problem, "join both folders, or rename one", code="E310")


def learn(model: Model, support: Mapping[str, Sequence[Source]]) -> EnrolledModel:
    """Return the model with other classes; the prototype of each is the mean feature vector of its images.

    Args:
        model: Exported from a network with a head of prototypes.
        support: At least one image of each class.

    Raises:
        ModelError: If the model does not take other classes (`E428`).
        ImageError: If an image cannot be used; the message names it.
    """
    prototypes = [np.mean([_features(model, image) for image in images], 0) for images in support.values()]
    shots = tuple(len(images) for images in support.values())
    enrolled = EnrolledClasses(tuple(support), np.array(prototypes, np.float32), shots, model.metadata.key)
    return EnrolledModel(model, enrolled)


def enroll(model: Model, folder: str | Path, file: str | Path | None = None) -> Path:
    """Save the classes of a folder of class folders, for `open_classes`.

    Args:
        model: As for `learn`.
        folder: As for `read_support`.
        file: The file to write; None for `MODEL.classes.npz` beside `MODEL.onnx`.

    Returns:
        The written file.

    Raises:
        ModelError: As `learn`.
        ImageError: As `learn` and `read_support`.
    """
    enrolled = learn(model, read_support(folder)).enrolled
    return enrolled.save(Path(file) if file else model.path.with_suffix(SUFFIX))


def open_classes(model: Model, support: str | Path) -> EnrolledModel:
    """Return the model with the classes of a folder of class folders, or of a file that `enroll` wrote.

    Raises:
        ModelError: As `learn`, or if they are of another model (`E428`).
        ImageError: If folder, file or an image cannot be used.
    """
    path = Path(support)
    return EnrolledModel(model, read_enrolled(path)) if path.suffix == ".npz" else learn(model, read_support(path))


def _features(model: Model, source: Source) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    try:
        features: np.ndarray[tuple[int], np.dtype[np.float32]] = model.features([source])[0]
    except ImageError as error:
        name = f"{source}: " if isinstance(source, str | Path) else ""
        raise ImageError(f"{name}{error.problem}", error.hint, code=error.code) from None
    return features


def _is_image(file: Path) -> bool:
    return file.is_file() and is_image(file.name) and not is_litter(file.name)
