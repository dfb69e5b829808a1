"""Whose code may run because a file names it.

A model directory, a ticket and an adapter say how their network is rebuilt, and somebody else may have made them. What
they name runs if it is a network of this package, of timm or of torchvision, with arguments that neither fetch nor read
anything; or if the user trusts it: with `trusting` (`--trust` on the command line), or by a line in `trust.toml` with
the digest of the module's files. What the user names, here or in a pipeline, is the user's own choice and runs.

A seal does not help: whoever makes a file can seal it.
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
OWN = {
    "effxfer.net.cifar:ResNet": {"blocks", "width"},
    "effxfer.net.cifar:resnet20": {"width"},
    "effxfer.net.cifar:resnet56": {"width"},
    "effxfer.net.conv4:Conv4": {"width"},
    "effxfer.net.conv4:conv4": {"width"},
}
# Neither library takes an address, a file, a configuration or a class by one of these names.
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
LARGEST = 4096
MOST = 16
_trusted: ContextVar[frozenset[str]] = ContextVar("trusted", default=frozenset())


@contextmanager
def trusting(*factories: str) -> Iterator[None]:
    """Let files name `package.module:factory` in this block, with any arguments; or `timm:NAME` with any.

    Raises:
        SettingsError: If a name is none of a factory.
    """
    wrong = [name for name in factories if not FACTORY.fullmatch(name)]
    if wrong:
        raise SettingsError(f"{wrong[0]!r} is no factory to trust", "write package.module:factory")
    token = _trusted.set(_trusted.get() | set(factories))
    try:
        yield
    finally:
        _trusted.reset(token)


@contextmanager
def naming(*sources: str) -> Iterator[None]:
    """Let files name in this block the factories that a user's own settings name; of libraries, nothing more."""
    named = [source.partition("@")[0] for source in sources]
    own = [name for name in named if FACTORY.fullmatch(name) and name.partition(":")[0] not in LIBRARIES]
    with trusting(*own):
        yield


def check(backbone: Mapping[str, Any], where: str) -> None:
    """Make sure that a network may be built though a file names it; imports nothing that is not trusted.

    Args:
        backbone: As the file has it: `{"source": ..., "args": {...}}`.
        where: The file, to name it in errors.

    Raises:
        ModelFileError: `E413` with what would have been imported, or fetched or read, and how to allow it.
        SettingsError: If `trust.toml` is not TOML.
    """
    source, args = str(backbone["source"]), backbone["args"]
    if source in _trusted.get():
        return
    known = OWN.get(source, ARGUMENTS.get(source.partition(":")[0]))
    if known is None:
        _check_remembered(source, where)
        return
    wrong = [name for name, value in args.items() if name not in known or not _is_plain(value)]
    if wrong:
        text = f"{where} gives {source} {wrong[0]} = {args[wrong[0]]!r:.80}, which might fetch, read or run something"
        raise ModelFileError(text, f"if you trust who made it, pass `trust={source}`", code="E413")


def files_of(module: str) -> tuple[Path, ...]:
    """Find the files that importing a module would run, its packages' first, without importing anything.

    Returns:
        Nothing if there is no such module, or if only an import could find it.
    """
    found, path, parts = list[Path](), None, module.split(".")
    for depth in range(1, len(parts) + 1):
        try:
            spec = PathFinder.find_spec(".".join(parts[:depth]), path)
            path = list(spec.submodule_search_locations or ()) if spec else []
        except (KeyError, ValueError, ImportError, OSError):  # a package without a file inside another one
            return ()
        if spec and spec.has_location and spec.origin:
            found.append(Path(spec.origin))
        elif not spec or depth == len(parts):
            return ()
    return tuple(found)


def digest_of(module: str) -> str:
    """Digest the files of a module, one after the other, in hexadecimal; empty if `files_of` finds none.

    Of a module without a package that is what `sha256sum` says of its file.
    """
    files, whole = files_of(module), hashlib.sha256()
    for file in files:
        whole.update(file.read_bytes())
    return whole.hexdigest() if files else ""


def trust_file() -> Path | None:
    """Where a user's list of trusted factories lies; None without a home."""
    home = os.environ.get("XDG_CONFIG_HOME", "")
    try:
        folder = Path(home) if Path(home).is_absolute() else Path("~/.config").expanduser()
    except RuntimeError:
        return None
    return folder / "effxfer" / "trust.toml"


def _check_remembered(source: str, where: str) -> None:
    """Refuse a factory that the user's list does not hold with the digest of its files; load it from those files."""
    module, actual, file = source.partition(":")[0], "", trust_file()
    if FACTORY.fullmatch(source):
        actual = digest_of(module)
    told = read_toml(file).get(source) if file and file.is_file() else None
    if not actual or told != actual:
        raise _refused(source, where, actual, told)
    _load(module, where)


def _refused(source: str, where: str, actual: str, told: object) -> ModelFileError:
    module, files = source.partition(":")[0], files_of(source.partition(":")[0]) if actual else ()
    place = files[-1] if files else "not found here"
    text = f"{where} names the network {source!r}: opening it would import {module!r} ({place}) and run it"
    if told is not None and actual:
        text += f"; it was trusted with other content, {str(told)[:12]}, and now is {actual[:12]}"
    if not FACTORY.fullmatch(source):
        return ModelFileError(text, "get an intact copy", code="E413")
    keep = f'; for good, put the line "{source}" = "{actual}" into {trust_file()}' if actual and trust_file() else ""
    return ModelFileError(text, f"if you trust it, pass `trust={source}`{keep}", code="E413")


def _load(module: str, where: str) -> None:
    """Import a module from the files that were digested: byte code beside them may be of other ones."""
    before, sys.pycache_prefix = sys.pycache_prefix, os.devnull
    try:
        import_module(module)
    except Exception as error:  # whatever a module raises
        text = f"{where} names {module}, which cannot be imported: {type(error).__name__} {error}"
        raise ModelFileError(text, "see that it is on PYTHONPATH", code="E413") from error
    finally:
        sys.pycache_prefix = before


def _is_plain(value: object, depth: int = 2) -> bool:
    """Whether a value is a small number, a short word, or a list of such: no address, no file, no table."""
    if isinstance(value, list | tuple):
        return depth > 0 and len(value) <= MOST and all(_is_plain(one, depth - 1) for one in value)
    if isinstance(value, str):
        return re.fullmatch(r"\w{0,40}", value, re.ASCII) is not None
    return value is None or (isinstance(value, int | float) and isfinite(value) and abs(value) <= LARGEST)
