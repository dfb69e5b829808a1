"""Short names of backbones for tables and messages."""

from collections.abc import Sequence
from pathlib import Path

from effxfer.errors import SettingsError
from effxfer.net.settings import BackboneSettings


def short_names(backbones: Sequence[BackboneSettings]) -> dict[str, BackboneSettings]:
    """Return the backbones by their shortest names that are unique.

    Raises:
        SettingsError: If a backbone is named twice.
    """
    sources = [backbone.source for backbone in backbones]
    short = [Path(source.partition("@")[0]).name for source in sources]
    names = [s if short.count(s) == 1 else source for s, source in zip(short, sources, strict=True)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SettingsError(f"{twice[0]} is named twice", "name each backbone once")
    return dict(zip(names, backbones, strict=True))
