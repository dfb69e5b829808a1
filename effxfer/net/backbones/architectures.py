"""Untrained network bodies by name: `timm:NAME`, `torchvision:NAME`, `package.module:factory`."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import nn

from effxfer.errors import EffxferError, ModelFileError, SettingsError, did_you_mean, out_of_memory
from effxfer.net.settings import FOLDERS
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.runtime.vectors.vectors import Vectors

OPEN_CLIP = "open_clip_config.json"


def build_body(source: str, args: Mapping[str, Any]) -> nn.Module:
    """Build an untrained body without a classifier.

    Args:
        source: `timm:NAME`, `torchvision:NAME` or `package.module:factory`; a factory returns a module that maps
            images to features or feature maps, and is called with `num_classes=0` if it takes that argument. It is a
            class derived from `nn.Module`, or a function annotated to return one. The module is imported, so a source
            that comes from a file must pass `check_trusted` first.
        args: Keyword arguments of the network.

    Raises:
        SettingsError: If no such network exists (the nearest names are listed), or it refuses the arguments.
    """
    library, _, name = source.partition(":")
    builders = {"timm": _build_timm, "torchvision": _build_torchvision}
    try:
        return builders[library](name, args) if library in builders else _build_custom(library, name, args)
    except EffxferError:
        raise
    except (Exception, SystemExit) as error:  # a user's factory may raise anything
        if out_of_memory(error):
            raise
        reason = "does not take" if isinstance(error, TypeError | ValueError) else "cannot be built with"
        text = f"{source} {reason} {dict(args)}: {type(error).__name__}: {error}"
        raise SettingsError(text, "see `args` of [backbone]") from error


def native_preprocess(body: nn.Module, source: str) -> Preprocess:
    """Return the preprocessing that a network's published weights expect, or timm's ImageNet default.

    A custom network declares it in an attribute `pretrained_cfg` with timm's keys: `input_size`, `crop_pct`,
    `crop_mode`, `interpolation`, `mean`, `std`.
    """
    library, _, name = source.partition(":")
    if library == "torchvision":
        return _torchvision_preprocess(name)
    from timm.data import resolve_model_data_config

    config = resolve_model_data_config(body)
    return Preprocess(
        size=config["input_size"][-1],
        crop_pct=config["crop_pct"],
        crop={"border": "letterbox"}.get(config["crop_mode"], config["crop_mode"]),
        interpolation=config["interpolation"],
        mean=_per_channel(config["mean"]),
        std=_per_channel(config["std"]),
    )


def declared_vectors(body: nn.Module, source: str) -> Vectors | None:
    """Return the input of a custom network for vectors, whose `pretrained_cfg` has a single number as `input_size`.

    `mean` and `std` there may hold a number for each column. None for a network of images.
    """
    config = getattr(body, "pretrained_cfg", None)
    size = config.get("input_size") if isinstance(config, Mapping) else None
    if (
        source.startswith(("timm:", "torchvision:"))
        or not isinstance(config, Mapping)
        or not isinstance(size, Sequence)
    ):
        return None
    if len(size) != 1:
        return None
    mean, std = (tuple(map(float, config.get(name, ()))) for name in ("mean", "std"))
    return Vectors(size=int(size[0]), mean=mean, std=std)


def names(library: str, pattern: str = "*") -> list[str]:
    """List the networks of `timm` or `torchvision` whose name matches a shell pattern."""
    if library == "timm":
        import timm

        matches: list[str] = timm.list_models(pattern)
        return matches
    from fnmatch import filter as matching

    import torchvision

    return matching(torchvision.models.list_models(module=torchvision.models), pattern)


def require(source: str) -> None:
    """Check that a named network exists, without building it or importing a custom module.

    Args:
        source: `timm:NAME`, `torchvision:NAME` or `package.module:factory`, optionally with `@weights`.

    Raises:
        SettingsError: If it does not exist.
    """
    library, _, name = source.partition("@")[0].partition(":")
    if source.startswith(FOLDERS):
        _require_folder(source)
    elif library in ("timm", "torchvision"):
        if name.split(".", maxsplit=1)[0] not in names(library):
            raise _unknown_network(library, name)
    elif not _is_module(library):
        raise SettingsError(f"no backbone {library}:{name}: no module named {library!r}", _import_hint(library))


def _require_folder(source: str) -> None:
    """Check that a folder is there, without reading its weights.

    Raises:
        ModelFileError: If it is absent or has no configuration.
    """
    folder = Path(source.partition(":")[2]).expanduser()
    names = ("config.json", OPEN_CLIP)
    if not any((folder / name).is_file() for name in names) and not any(folder.glob("*/config.json")):
        raise ModelFileError(
            f"{folder} is no folder of a text encoder or a dual encoder: no {' or '.join(names)}",
            "give the folder that `save_pretrained` wrote",
            code="E434",
        )


def _is_module(name: str) -> bool:
    """Whether the top-level package of a module can be found."""
    try:
        return find_spec(name.partition(".")[0]) is not None
    except (ImportError, ValueError):
        return False


def _build_timm(name: str, args: Mapping[str, Any]) -> nn.Module:
    import timm

    # After the dot stands the tag of the weights, as in resnet18.a1_in1k.
    if name.split(".", maxsplit=1)[0] not in timm.list_models():
        raise _unknown_network("timm", name)
    body: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **args)
    return body


def _build_torchvision(name: str, args: Mapping[str, Any]) -> nn.Module:
    import torchvision

    if name not in names("torchvision"):
        raise _unknown_network("torchvision", name)
    # torchvision has no `num_classes=0`.
    net: nn.Module = torchvision.models.get_model(name, weights=None, **args)
    _cut_classifier(net)
    return net


def _cut_classifier(net: nn.Module) -> None:
    """Replace the last linear layer by an identity; without one (SqueezeNet), replace `classifier` by pooling."""
    linear = [name for name, module in net.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        net.classifier = nn.AdaptiveAvgPool2d(1)
        return
    path, _, leaf = linear[-1].rpartition(".")
    setattr(net.get_submodule(path), leaf, nn.Identity())


def _build_custom(module: str, factory: str, args: Mapping[str, Any]) -> nn.Module:
    from inspect import signature

    try:
        make = getattr(import_module(module), factory)
    except (Exception, SystemExit) as error:  # a user's module may raise anything on import
        if out_of_memory(error):
            raise
        plain = isinstance(error, ImportError | AttributeError)
        reason = str(error) if plain else f"importing it raises {type(error).__name__}: {error}"
        raise SettingsError(f"no backbone {module}:{factory}: {reason}", _import_hint(module)) from error
    if not _returns_module(make):
        hint = "name a class derived from torch.nn.Module, or write def {factory}(...) -> torch.nn.Module"
        raise SettingsError(f"{module}:{factory} is not declared to return a network", hint.format(factory=factory))
    headless = {"num_classes": 0} if "num_classes" in signature(make).parameters else {}
    body = make(**headless, **args)
    if not isinstance(body, nn.Module):
        problem = f"{module}:{factory} returns {type(body).__name__}, not torch.nn.Module"
        raise SettingsError(problem, "return a torch.nn.Module")
    return body


def _import_hint(module: str) -> str:
    """Return the hint for a module that cannot be imported; the working directory is not on the import path."""
    file = Path(*module.split("."))
    if module and (file.with_suffix(".py").is_file() or (file / "__init__.py").is_file()):
        return f"{module} is in the working directory, which is not searched: set PYTHONPATH=. before effxfer"
    return "write timm:NAME, torchvision:NAME, package.module:factory, or a model directory"


def _returns_module(make: Any) -> bool:
    """Whether a callable is a subclass of `nn.Module`, or a function annotated to return one.

    Artifacts may name a callable, so anything else is refused.
    """
    from typing import get_type_hints

    if not isinstance(make, type):
        try:
            make = get_type_hints(make).get("return")
        except (TypeError, NameError):
            return False
    return isinstance(make, type) and issubclass(make, nn.Module)


def _per_channel(values: Sequence[float]) -> tuple[float, float, float]:
    """Return one value per RGB channel; a network for grey images has a single value, which is repeated."""
    red, *remaining = values
    green, blue = remaining or (red, red)
    return red, green, blue


def _torchvision_preprocess(name: str) -> Preprocess:
    import torchvision

    transform = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    size, resized = transform.crop_size[0], transform.resize_size[0]
    return Preprocess(
        size=size,
        crop_pct=size / resized,
        interpolation=transform.interpolation.value,
        mean=tuple(transform.mean),
        std=tuple(transform.std),
    )


def _unknown_network(library: str, name: str) -> SettingsError:
    available = names(library)
    text = f"{library} has no network {name!r}{did_you_mean(name, available)}"
    return SettingsError(text, f"`effxfer models '{name[:4]}*' --library {library}` lists the names")
