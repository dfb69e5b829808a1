"""Untrained network bodies by name: `timm:NAME`, `torchvision:NAME`, `package.module:factory`."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import nn

from effxfer.errors import EffxferError, SettingsError, did_you_mean, out_of_memory
from effxfer.runtime.images.preprocess import Preprocess


def build_body(source: str, args: Mapping[str, Any]) -> nn.Module:
    """Make an untrained body, without a classifier.

    Args:
        source: `timm:NAME`, `torchvision:NAME` or `package.module:factory`; a factory returns a module that maps
            images to features or feature maps, and is called with `num_classes=0` if it takes that argument. It is a
            class derived from `nn.Module`, or a function annotated to return one. It is imported: what comes out of a
            file passes `trust.check` first.
        args: Keyword arguments of the network.

    Raises:
        SettingsError: If there is no such network, with the nearest names, or it refuses the arguments.
    """
    library, _, name = source.partition(":")
    builders = {"timm": _timm, "torchvision": _torchvision}
    try:
        return builders[library](name, args) if library in builders else _own(library, name, args)
    except EffxferError:
        raise
    except (Exception, SystemExit) as error:  # whatever somebody's factory raises
        if out_of_memory(error):
            raise
        why = "does not take" if isinstance(error, TypeError | ValueError) else "cannot be built with"
        text = f"{source} {why} {dict(args)}: {type(error).__name__}: {error}"
        raise SettingsError(text, "see `args` of [backbone]") from error


def native_preprocess(body: nn.Module, source: str) -> Preprocess:
    """What the network's published weights expect as input; ImageNet's usual where it does not say.

    A network of one's own says it in an attribute `pretrained_cfg`, as timm's do: `input_size`, `crop_pct`,
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
        mean=_of_three(config["mean"]),
        std=_of_three(config["std"]),
    )


def names(library: str, pattern: str = "*") -> list[str]:
    """List the networks of `timm` or `torchvision` whose name matches a shell pattern."""
    if library == "timm":
        import timm

        found: list[str] = timm.list_models(pattern)
        return found
    from fnmatch import filter as matching

    import torchvision

    return matching(torchvision.models.list_models(module=torchvision.models), pattern)


def require(source: str) -> None:
    """Make sure that there is a network of a name, without building it; a module of somebody else's is not imported.

    Args:
        source: As in `BackboneSettings`.

    Raises:
        SettingsError: If there is none.
    """
    library, _, name = source.partition("@")[0].partition(":")
    if library in ("timm", "torchvision"):
        if name.split(".", maxsplit=1)[0] not in names(library):
            raise _unknown(library, name)
    elif not _is_module(library):
        raise SettingsError(f"no backbone {library}:{name}: no module named {library!r}", _where(library))


def _is_module(name: str) -> bool:
    """Whether a module, or the package that it is in, can be found."""
    try:
        return find_spec(name.partition(".")[0]) is not None
    except (ImportError, ValueError):
        return False


def _timm(name: str, args: Mapping[str, Any]) -> nn.Module:
    import timm

    if name.split(".", maxsplit=1)[0] not in timm.list_models():
        raise _unknown("timm", name)
    body: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **args)
    return body


def _torchvision(name: str, args: Mapping[str, Any]) -> nn.Module:
    import torchvision

    if name not in names("torchvision"):
        raise _unknown("torchvision", name)
    net: nn.Module = torchvision.models.get_model(name, weights=None, **args)
    _cut_classifier(net)
    return net


def _cut_classifier(net: nn.Module) -> None:
    """Replace the last linear layer by nothing; where the classifier is a convolution (SqueezeNet), pool instead."""
    linear = [name for name, module in net.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        net.classifier = nn.AdaptiveAvgPool2d(1)
        return
    path, _, leaf = linear[-1].rpartition(".")
    setattr(net.get_submodule(path), leaf, nn.Identity())


def _own(module: str, factory: str, args: Mapping[str, Any]) -> nn.Module:
    from inspect import signature

    try:
        make = getattr(import_module(module), factory)
    except (Exception, SystemExit) as error:  # whatever somebody's module raises when it is imported
        if out_of_memory(error):
            raise
        plain = isinstance(error, ImportError | AttributeError)
        why = str(error) if plain else f"importing it raises {type(error).__name__}: {error}"
        raise SettingsError(f"no backbone {module}:{factory}: {why}", _where(module)) from error
    if not _makes_modules(make):
        hint = "name a class derived from torch.nn.Module, or write def {factory}(...) -> torch.nn.Module"
        raise SettingsError(f"{module}:{factory} does not say that it makes a network", hint.format(factory=factory))
    headless = {"num_classes": 0} if "num_classes" in signature(make).parameters else {}
    body = make(**headless, **args)
    if not isinstance(body, nn.Module):
        raise SettingsError(f"{module}:{factory} gives {type(body).__name__}, no torch.nn.Module", "let it give one")
    return body


def _where(module: str) -> str:
    """Say how a module is found that lies in the working directory, where nothing is imported from."""
    file = Path(*module.split("."))
    if module and (file.with_suffix(".py").is_file() or (file / "__init__.py").is_file()):
        return f"{module} is in the working directory, which is not searched: set PYTHONPATH=. before effxfer"
    return "write timm:NAME, torchvision:NAME, package.module:factory, or a model directory"


def _makes_modules(make: Any) -> bool:
    """Whether a class is, or a function is annotated to return, a module: an artifact may name nothing else to call."""
    from typing import get_type_hints

    if not isinstance(make, type):
        try:
            make = get_type_hints(make).get("return")
        except (TypeError, NameError):
            return False
    return isinstance(make, type) and issubclass(make, nn.Module)


def _of_three(values: Sequence[float]) -> tuple[float, float, float]:
    """Give a value for each channel of an image: to networks for grey ones all are the same."""
    first, *others = values
    second, third = others or (first, first)
    return first, second, third


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


def _unknown(library: str, name: str) -> SettingsError:
    known = names(library)
    text = f"{library} has no network {name!r}{did_you_mean(name, known)}"
    return SettingsError(text, f"`effxfer models '{name[:4]}*' --library {library}` lists names")
