"""Decide which code may run because a file names it.

A model directory, a ticket and an adapter describe how their network is rebuilt, and may come from somebody else. The
network that they name is built if it belongs to this package, timm or torchvision and its arguments neither fetch nor
read anything. Any other one must be trusted: by `trust` (`--trust` on the command line), or by a line in
`trust.toml` with the digest of the module's files. A network that the user names, here or in a pipeline, always runs.

A seal does not replace trust: whoever makes a file can seal it.
"""

import hashlib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from importlib.machinery import PathFinder
from math import isfinite
from pathlib import Path
from typing import Any

from effxfer.errors import ModelFileError, SettingsError
from effxfer.toml import read_toml

LIBRARIES = ("timm", "torchvision")
FACTORY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_][\w.]*")
BUNDLED = {
    "effxfer.net.cifar:ResNet": {"blocks", "width"},
    "effxfer.net.cifar:resnet20": {"width"},
    "effxfer.net.cifar:resnet56": {"width"},
    "effxfer.net.conv4:Conv4": {"width"},
    "effxfer.net.conv4:conv4": {"width"},
    "effxfer.net.mlp:Mlp": {"batchnorm", "dropout", "hidden", "inputs"},
    "effxfer.net.mlp:mlp": {"batchnorm", "dropout", "hidden", "inputs"},
    "effxfer.net.text.encoder:Encoder": {
        "activation", "attention_dropout", "biased", "causal", "dropout", "embedding_norm", "embedding_width", "eps",
        "first_norm", "gated", "global_every", "heads", "layers", "local_rotary", "mlp", "pad", "pooling", "positions",
        "positions_from_pad", "pre_norm", "relative_buckets", "rotary", "segments", "separator", "vocabulary", "width",
        "window",
    },
}  # fmt: skip
# By none of these names does either library accept a URL, a file, a configuration or a class.
TIMM = """
    aa_layer act_layer attn_drop_rate avg_down base_width block_reduce_first bn_eps bn_momentum bn_tf cardinality
    channels class_token depth depths dims down_kernel_size drop_block_rate drop_path_rate drop_rate dynamic_img_pad
    dynamic_img_size embed_dim fc_norm features_only final_norm fix_stem global_pool head_bias head_conv_bias
    head_init_scale head_norm_first img_size in_chans init_values kernel_sizes layers ls_init_value mlp_ratio
    no_embed_class norm_eps norm_layer num_heads out_indices output_stride pad_type patch_drop_rate patch_size pool_size
    pos_drop_rate pos_embed pre_norm proj_drop_rate qk_norm qkv_bias reg_tokens replace_stem_pool se_from_exp stem_chs
    stem_kernel_size stem_size stem_type stem_width strict_img_size use_pos_embed weight_init width window_size
    zero_init_last
"""
TORCHVISION = """
    attention_dropout aux_logits bn_size drop_rate dropout groups growth_rate image_size init_weights memory_efficient
    patch_size reduced_tail replace_stride_with_dilation stochastic_depth_prob transform_input width_mult
    width_per_group zero_init_residual
"""
ARGUMENTS = {"timm": set(TIMM.split()), "torchvision": set(TORCHVISION.split())}
# Chosen: above the sides and widths that published networks are given, such as an `embed_dim` of 1,664 (ViT-G).
LARGEST_NUMBER = 4096
LARGER = {
    "inputs": 100_000,
    "local_rotary": 10**9,
    "mlp": 2**16,
    "positions": 2**16,
    "rotary": 10**9,
    "separator": 2**20,
    "vocabulary": 2**20,
    "window": 2**16,
}  # of text encoders and vectors
# Chosen: depths and widths are lists of a few stages.
LONGEST_LIST = 16
_trusted: ContextVar[frozenset[str]] = ContextVar("trusted", default=frozenset())


@contextmanager
def trust(*factories: str) -> Iterator[None]:
    """Allow files to build networks by the named factories, within a `with` block.

    Args:
        factories: Factories `package.module:factory`, or `timm:NAME` for a library's network with any arguments.

    Raises:
        SettingsError: If a name is not the name of a factory.

    Examples:
        >>> with ex.trust("mymodule:make"):
        ...     network = ex.load("runs/dense").network()
    """
    wrong = [name for name in factories if not FACTORY.fullmatch(name)]
    if wrong:
        raise SettingsError(f"{wrong[0]!r} is not the name of a factory", "write package.module:factory")
    token = _trusted.set(_trusted.get() | set(factories))
    try:
        yield
    finally:
        _trusted.reset(token)


def trusted_factories() -> frozenset[str]:
    """Return the factories that are trusted at present."""
    return _trusted.get()


@contextmanager
def trust_sources(*sources: str) -> Iterator[None]:
    """Trust in this block the factories that the user's own settings name; library networks need no trust."""
    named = [source.partition("@")[0] for source in sources]
    custom = [name for name in named if FACTORY.fullmatch(name) and name.partition(":")[0] not in LIBRARIES]
    with trust(*custom):
        yield


def check_trusted(backbone: Mapping[str, Any], origin: str) -> None:
    """Check that a network named by a file may be built, without importing anything untrusted.

    Args:
        backbone: The file's entry: `{"source": ..., "args": {...}}`.
        origin: Name of the file, for errors.

    Raises:
        ModelFileError: `E413`, with the module or argument that was refused and how to allow it.
        SettingsError: If `trust.toml` is not TOML.
    """
    source, args = str(backbone["source"]), backbone["args"]
    if source in _trusted.get():
        return
    allowed = BUNDLED.get(source, ARGUMENTS.get(source.partition(":")[0]))
    if allowed is None:
        _check_trust_file(source, origin)
        return
    wrong = [
        name
        for name, value in args.items()
        if name not in allowed or not _is_plain(value, LARGER.get(name, LARGEST_NUMBER))
    ]
    if wrong:
        text = f"{origin} gives {source} {wrong[0]} = {args[wrong[0]]!r:.80}, which might fetch, read or run something"
        raise ModelFileError(text, f'if you trust who made it, use `effxfer.trust("{source}")`', code="E413")


def module_files(module: str) -> tuple[Path, ...]:
    """List the files that importing a module would run, its packages' first, without importing anything.

    Returns:
        The files; none if the module does not exist, or could be located only by importing.
    """
    files, path, parts = list[Path](), None, module.split(".")
    for depth in range(1, len(parts) + 1):
        try:
            spec = PathFinder.find_spec(".".join(parts[:depth]), path)
            path = list(spec.submodule_search_locations or ()) if spec else []
        except (KeyError, ValueError, ImportError, OSError):  # a package without a file inside another one
            return ()
        if spec and spec.has_location and spec.origin:
            files.append(Path(spec.origin))
        elif not spec or depth == len(parts):
            return ()
    return tuple(files)


def module_digest(module: str) -> str:
    """Return the SHA-256 of a module's concatenated files, in hexadecimal; empty if `module_files` lists none.

    For a module without a package it equals the output of `sha256sum`.
    """
    files, digest = module_files(module), hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest() if files else ""


def trust_file() -> Path | None:
    """Return the path of the user's list of trusted factories; None without a home directory."""
    home = os.environ.get("XDG_CONFIG_HOME", "")
    try:
        folder = Path(home) if Path(home).is_absolute() else Path("~/.config").expanduser()
    except RuntimeError:
        return None
    return folder / "effxfer" / "trust.toml"


def _check_trust_file(source: str, origin: str) -> None:
    """Import a factory if the user's list holds the digest of its files; refuse it otherwise."""
    module, actual, file = source.partition(":")[0], "", trust_file()
    if FACTORY.fullmatch(source):
        actual = module_digest(module)
    trusted = read_toml(file).get(source) if file and file.is_file() else None
    if not actual or trusted != actual:
        raise _untrusted_error(source, origin, actual, trusted)
    _import_checked(module, origin)


def _untrusted_error(source: str, origin: str, actual: str, trusted: object) -> ModelFileError:
    module, files = source.partition(":")[0], module_files(source.partition(":")[0]) if actual else ()
    location = files[-1] if files else "not found here"
    text = f"{origin} names the network {source!r}: opening it would import {module!r} ({location}) and run it"
    if trusted is not None and actual:
        text += f"; its digest was {str(trusted)[:12]} when it was trusted, and is {actual[:12]} now"
    if not FACTORY.fullmatch(source):
        return ModelFileError(text, "get an intact copy", code="E413")
    permanent = (
        f'; to trust it permanently, put the line "{source}" = "{actual}" into {trust_file()}'
        if actual and trust_file()
        else ""
    )
    return ModelFileError(text, f'if you trust it, use `effxfer.trust("{source}")`{permanent}', code="E413")


def _import_checked(module: str, origin: str) -> None:
    """Import a module from its digested source files; cached byte code may belong to other sources."""
    # A byte-code cache is taken for its source by date and size only: the digest would be of other code than runs.
    before, sys.pycache_prefix = sys.pycache_prefix, os.devnull
    try:
        import_module(module)
    except Exception as error:  # a user's module may raise anything
        text = f"{origin} names {module}, which cannot be imported: {type(error).__name__} {error}"
        raise ModelFileError(text, "check that it is on PYTHONPATH", code="E413") from error
    finally:
        sys.pycache_prefix = before


def _is_plain(value: object, largest: int, depth: int = 2) -> bool:
    """Whether a value is a small number, a short word, or a list of these; never a URL, file or table."""
    if isinstance(value, list | tuple):
        return depth > 0 and len(value) <= LONGEST_LIST and all(_is_plain(v, largest, depth - 1) for v in value)
    if isinstance(value, str):
        # ASCII letters, digits and _ only: no word with a slash, a dot or a colon leads to a file or a host.
        return re.fullmatch(r"\w{0,40}", value, re.ASCII) is not None
    return value is None or (isinstance(value, int | float) and isfinite(value) and abs(value) <= largest)
