"""The first pass through a network: what it takes and gives is found out, and mended or said, before it is trained.

A network that fails on the images that it would get is built once more: for their size, where it takes one (`img_size`
of timm's transformers, `image_size` of torchvision's), or to see them grey, where it has one channel.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from effxfer.errors import ModelFileError, SettingsError, out_of_memory
from effxfer.net.backbones.architectures import build_body, native_preprocess
from effxfer.net.edits import apply_edit
from effxfer.net.hooks import as_evaluated
from effxfer.net.net import Edit, Net
from effxfer.net.settings import BackboneSettings
from effxfer.net.taps import example_input, pool
from effxfer.runtime.images.preprocess import Preprocess

Args = Mapping[str, Any]
SIZES = ("img_size", "image_size")
USUAL = (224, 256, 299, 384, 128, 96, 64, 32)
DIMENSIONS = (2, 3, 4)
GREY: Edit = {"kind": "grey"}
GIVES = "it maps images (B, 3, S, S) to features (B, D), maps (B, D, h, w) or tokens (B, n, D)"


def untrained(settings: BackboneSettings) -> tuple[Net, tuple[str, ...]]:
    """Make a network without a head, always the same, that takes the images that it would get.

    Returns:
        The network, and notes on what it needed for that.

    Raises:
        SettingsError: If there is no such network, or it cannot be used (`E216`), with what it said and what would do.
    """
    source = settings.source.partition("@")[0]
    body = build_body(source, settings.args)
    args, notes = _without_auxiliary(body, source, settings.args)
    preprocess = settings.adjust(_native(native_preprocess(body, source), args))
    problems = list[str]()
    for more, edits in _ways(args, preprocess.size):
        try:
            net = _made(source, {**args, **more}, preprocess, edits)
        except SettingsError:
            if not more:
                raise
            continue  # it takes no such argument
        problems.append(problem(net))
        if not problems[-1]:
            return net, notes + _told(source, more, edits)
    text = f"{source} cannot be used with images of {preprocess.size} px: {problems[0]}"
    raise SettingsError(text, _way_out(source, args, preprocess), code="E216")


def problem(net: Net) -> str:
    """Say what is wrong with what a body gives for two images; empty if nothing is."""
    try:
        out = _pass(net)
    except (Exception, SystemExit) as error:  # whatever a foreign network raises; it may not end the program in silence
        if out_of_memory(error):
            raise
        return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    if not out.is_floating_point():
        return f"it gives {str(out.dtype).removeprefix('torch.')}, not float32"
    if out.dim() not in DIMENSIONS or 0 in out.shape:
        return f"it gives a tensor of shape {tuple(out.shape)}"
    return "" if len(out) == 2 else f"it gives {len(out)} rows for 2 images: the batch must stay free"


def examine(net: Net, name: str) -> tuple[str, ...]:
    """Look at what a network with its weights gives for two different images.

    Returns:
        A note where both get the same (`W416`).

    Raises:
        ModelFileError: If that is not finite (`E407`).
    """
    features = pool(_pass(net))
    if not bool(features.isfinite().all()):
        raise ModelFileError(f"{name} gives NaN or infinity for an image", "get intact weights for it", code="E407")
    same = torch.equal(features[0], features[1])
    return (f"W416 {name} gives the same features for two different images",) if same else ()


@torch.no_grad()
def _pass(net: Net) -> Tensor:
    images = torch.rand(example_input(net).shape, generator=torch.Generator().manual_seed(0))
    with as_evaluated(net):
        return net.outputs(images, ("out",))["out"]


def _made(source: str, args: Args, preprocess: Preprocess, edits: tuple[Edit, ...]) -> Net:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Net({"source": source, "args": dict(args)}, preprocess)
    for edit in edits:
        apply_edit(net, **edit)
    return net


def _ways(args: Args, size: int) -> Iterator[tuple[Args, tuple[Edit, ...]]]:
    """Give further arguments, and edits, with which a network may take its images: as it is, and what is tried then."""
    sizes = [{name: size} for name in SIZES if name not in args]
    for edits in ((), (GREY,)):
        yield from ((more, edits) for more in ({}, *sizes))


def _told(source: str, more: Args, edits: tuple[Edit, ...]) -> tuple[str, ...]:
    notes = tuple(f"{source}: {name} = {value}, as the images are" for name, value in more.items())
    return notes + ((f"{source} sees images grey: its one channel is the mean of three",) if edits else ())


def _without_auxiliary(body: Any, source: str, args: Args) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Leave out classifiers that only training has, and that no loss of ours would feed."""
    plain = {**args}
    if getattr(body, "aux_logits", False) is not True or "aux_logits" in args:
        return plain, ()
    try:
        build_body(source, {**args, "aux_logits": False})
    except SettingsError:
        return plain, ()
    return {**plain, "aux_logits": False}, (f"{source}: built without its auxiliary classifiers",)


def _native(preprocess: Preprocess, args: Args) -> Preprocess:
    """Expect images of the size that a network was told to be for."""
    sizes = [args[name] for name in SIZES if isinstance(args.get(name), int)]
    return replace(preprocess, size=sizes[0]) if sizes else preprocess


def _way_out(source: str, args: Args, preprocess: Preprocess) -> str:
    """Say which size would do, or what a network must give."""
    net = _made(source, args, preprocess, ())
    for size in sorted(USUAL, key=lambda size: abs(size - preprocess.size)):
        net.preprocess = replace(preprocess, size=size)
        if not problem(net):
            return f"images of {size} px would do: backbone.size={size}"
    return f"see `args` of [backbone]; a network can be used if {GIVES}"
