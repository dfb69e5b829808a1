"""Run a first forward pass through a new network, to fix or report mismatches before it is trained.

A network that fails on its images is built again: for their size, if it takes that argument (`img_size` of timm's
transformers, `image_size` of torchvision's), or with grey input, if it has one channel.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from effxfer.errors import ModelFileError, SettingsError, out_of_memory
from effxfer.net.backbones.architectures import build_body, declared_vectors, native_preprocess
from effxfer.net.edits import apply_edit
from effxfer.net.hooks import as_evaluated
from effxfer.net.net import Edit, Net
from effxfer.net.settings import BackboneSettings
from effxfer.net.taps import example_input, pool
from effxfer.runtime.inputs import Input

Args = Mapping[str, Any]
SIZES = ("img_size", "image_size")
# Sides that published networks were trained at; the nearest to the one that failed is tried first.
COMMON_SIZES = (224, 256, 299, 384, 128, 96, 64, 32)
# Features, tokens and maps.
DIMENSIONS = (2, 3, 4)
GREY: Edit = {"kind": "grey"}
CONTRACT = "it maps images (B, 3, S, S) to features (B, D), maps (B, D, h, w) or tokens (B, n, D)"


def build_untrained(settings: BackboneSettings) -> tuple[Net, tuple[str, ...]]:
    """Build a network without a head, with the same initial weights each time, that accepts the configured images.

    Returns:
        The network, and notes on the arguments or edits that this needed.

    Raises:
        SettingsError: If no such network exists, or it cannot be used (`E216`), with its error and a size that works.
    """
    source = settings.source.partition("@")[0]
    body = build_body(source, settings.args)
    args, notes = _without_auxiliary(body, source, settings.args)
    native = declared_vectors(body, source) or _with_own_size(native_preprocess(body, source), args)
    input = settings.adjust(native)
    problems = list[str]()
    for extra, edits in _variants(args, input):
        try:
            net = _build(source, {**args, **extra}, input, edits)
        except SettingsError:
            if not extra:
                raise
            continue  # it does not take that argument
        problems.append(problem(net))
        if not problems[-1]:
            return net, notes + _variant_notes(source, extra, edits)
    size = f"images of {input.size} px" if input.kind == "image" else f"{input.unit} of {input.size} numbers"
    text = f"{source} cannot be used with {size}: {problems[0]}"
    raise SettingsError(text, _hint(source, args, input), code="E216")


def problem(net: Net) -> str:
    """Describe what is wrong with a body's output for two images; empty if nothing is."""
    try:
        out = _forward(net)
    except (Exception, SystemExit) as error:  # a user's network may raise anything, and may call sys.exit
        if out_of_memory(error):
            raise
        return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    if not out.is_floating_point():
        return f"it returns {str(out.dtype).removeprefix('torch.')}, not float32"
    if out.dim() not in DIMENSIONS or 0 in out.shape:
        return f"it returns a tensor of shape {tuple(out.shape)}"
    return "" if len(out) == 2 else f"it returns {len(out)} rows for 2 images: the batch size must not be fixed"


def examine(net: Net, name: str) -> tuple[str, ...]:
    """Check the features that a network with its weights computes for two different images.

    Returns:
        A note if both are equal (`W416`).

    Raises:
        ModelFileError: If they are not finite (`E407`).
    """
    features = pool(_forward(net))
    if not bool(features.isfinite().all()):
        raise ModelFileError(f"{name} returns NaN or infinity for an image", "get intact weights for it", code="E407")
    identical = torch.equal(features[0], features[1])
    return (f"W416 {name} returns the same features for two different images",) if identical else ()


@torch.no_grad()
def _forward(net: Net) -> Tensor:
    # Two different images: a network that answers both alike, or fixes the batch, shows itself.
    images = torch.rand(example_input(net).shape, generator=torch.Generator().manual_seed(0))
    with as_evaluated(net):
        return net.outputs(images, ("out",))["out"]


def _build(source: str, args: Args, input: Input, edits: tuple[Edit, ...]) -> Net:
    # No devices: forking CUDA's generators would start CUDA, and warn where there are many GPUs.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Net({"source": source, "args": dict(args)}, input)
    for edit in edits:
        apply_edit(net, **edit)
    return net


def _variants(args: Args, input: Input) -> Iterator[tuple[Args, tuple[Edit, ...]]]:
    """Yield the arguments and edits to try, so that a network accepts its images; the unchanged network first."""
    if input.kind != "image":
        yield {}, ()
        return
    sizes = [{name: input.size} for name in SIZES if name not in args]
    for edits in ((), (GREY,)):
        yield from ((extra, edits) for extra in ({}, *sizes))


def _variant_notes(source: str, extra: Args, edits: tuple[Edit, ...]) -> tuple[str, ...]:
    notes = tuple(f"{source}: {name} = {value}, the size of the images" for name, value in extra.items())
    return notes + ((f"{source} takes grey images: its single channel is the mean of the three",) if edits else ())


def _without_auxiliary(body: Any, source: str, args: Args) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Build without auxiliary classifiers, which exist only for pretraining and would receive no loss here."""
    plain = {**args}
    if getattr(body, "aux_logits", False) is not True or "aux_logits" in args:
        return plain, ()
    try:
        build_body(source, {**args, "aux_logits": False})
    except SettingsError:
        return plain, ()
    return {**plain, "aux_logits": False}, (f"{source}: built without its auxiliary classifiers",)


def _with_own_size(input: Input, args: Args) -> Input:
    """Set the input size to the one in a network's arguments."""
    sizes = [args[name] for name in SIZES if isinstance(args.get(name), int)]
    return input.with_size(sizes[0]) if sizes else input


def _hint(source: str, args: Args, input: Input) -> str:
    """Return the hint: a common input size that works, or what a network must return."""
    if input.kind == "vector":
        return "it maps vectors (B, D) to features (B, F)"
    net = _build(source, args, input, ())
    for size in sorted(COMMON_SIZES, key=lambda size: abs(size - input.size)):
        net.input = input.with_size(size)
        if not problem(net):
            return f"images of {size} px work: backbone.size={size}"
    return f"see `args` of [backbone]; a network can be used if {CONTRACT}"
