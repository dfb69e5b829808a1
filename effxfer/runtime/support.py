"""Teach an exported model new classes on the device, from a few images of each.

>>> model = learn(Model("model.onnx"), read_support("photos/of/mine"))  # doctest: +SKIP
>>> model.predict(["photo.jpg"])[0].label  # doctest: +SKIP
'my cup'
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from effxfer.runtime.images.names import is_image, is_litter
from effxfer.runtime.images.preprocess import ImageError
from effxfer.runtime.model import Model, Source


def read_support(folder: str | Path) -> dict[str, list[Path]]:
    """List the images of a folder of class folders, by class.

    Raises:
        ImageError: If the folder does not exist, has no class, or a class has no images (`E310`); or if a folder cannot
            be read (`E319`).
    """
    root = Path(folder)
    hint = "give a folder that holds a folder of images for each class"
    if not os.path.isdir(root):  # noqa: PTH112 (never raises)
        raise ImageError(f"no folder {root}", hint, code="E310")
    try:
        classes = sorted(p for p in root.iterdir() if p.is_dir() and not is_litter(p.name))
        support = {path.name: sorted(p for p in path.iterdir() if _is_image(p)) for path in classes}
    except OSError as error:
        raise ImageError(f"{error.filename} cannot be read: {error.strerror}", hint, code="E319") from None
    empty = [name for name, images in support.items() if not images]
    if not support or empty:
        problem = f"no images in {root / empty[0]}" if empty else f"{root} holds no class folder"
        raise ImageError(problem, hint, code="E310")
    return support


def learn(model: Model, support: Mapping[str, Sequence[Source]]) -> Model:
    """Return the model with other classes; the prototype of each is the mean feature vector of its images.

    Args:
        model: Exported from a network that was trained with strategy `prototypes`.
        support: At least one image of each class.

    Raises:
        ModelError: If the model does not take other classes (`E428`).
        ImageError: If an image cannot be used; the message names it.
    """
    prototypes = [np.mean([_features(model, image) for image in images], 0) for images in support.values()]
    return model.with_prototypes(np.array(prototypes, np.float32), tuple(support))


def _features(model: Model, source: Source) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    try:
        features: np.ndarray[tuple[int], np.dtype[np.float32]] = model.features([source])[0]
    except ImageError as error:
        name = f"{source}: " if isinstance(source, str | Path) else ""
        raise ImageError(f"{name}{error.problem}", error.hint, code=error.code) from None
    return features


def _is_image(file: Path) -> bool:
    return file.is_file() and is_image(file.name) and not is_litter(file.name)
