"""Options that several commands share."""

from pathlib import Path
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check settings, data, names and places; say what would be done.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace a result that was made from other inputs.")]
Seed = Annotated[int | None, typer.Option(help="Of everything random.  [default: 0]")]
Out = Annotated[Path, typer.Option(help="Where to write.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 …")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any other setting; repeat.")]
Budget = Annotated[str | None, typer.Option(metavar="TIME", help="All the time there is: 90s, 10m, 1h30m.")]
Data = Annotated[str, typer.Option(help="Folder of class folders, table (.csv, .parquet), or digits.")]
Source = Annotated[
    str, typer.Argument(help="Model directory, bundled model, timm:NAME[@FILE], torchvision:NAME[@FILE].")
]


def table(changes: list[str] | None, **flags: Any) -> dict[str, Any]:
    """Make a settings table of flags that were given (`fit__epochs` is `fit.epochs`) and of `KEY=VALUE` texts.

    Raises:
        SettingsError: If a text is not of that form.
    """
    from effxfer.errors import SettingsError
    from effxfer.toml import parse_value, split_key

    made: dict[str, Any] = {}
    for name, value in flags.items():
        if value is not None:
            _put(made, name.split("__"), value)
    for text in changes or []:
        key, mark, value = text.partition("=")
        if not mark:
            raise SettingsError(f"{text!r} is not KEY=VALUE", "such as --set fit.ema=0.99")
        _put(made, split_key(key), parse_value(value.strip()))
    return made


def duration(text: str) -> float:
    """Read a time such as `90s`, `10m` or `1h30m`, in seconds.

    >>> duration("1h30m"), duration("90")
    (5400.0, 90.0)

    Raises:
        SettingsError: If it is none, or not above 0.
    """
    import re

    from effxfer.errors import SettingsError

    parts = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip())
    hours, minutes, seconds = (float(part or 0) for part in parts.groups()) if parts else (0.0, 0.0, 0.0)
    total = 3600 * hours + 60 * minutes + seconds
    if total <= 0:
        raise SettingsError(f"{text!r} is not a time", "such as 90s, 10m or 1h30m")
    return total


def seconds_of(budget: str | None) -> float | None:
    """Read a time that may be left out; None is no limit."""
    return duration(budget) if budget else None


def words(text: str) -> list[str]:
    """Split what is between commas.

    >>> words("full, lp_ft,")
    ['full', 'lp_ft']
    """
    return [part.strip() for part in text.split(",") if part.strip()]


def numbers(name: str, text: str, *, last: str = "") -> list[int]:
    """Read whole numbers with commas between.

    Args:
        name: Of the option.
        text: What was given.
        last: A word that may end the list, and says nothing.

    Raises:
        SettingsError: If a part is not a whole number.

    >>> numbers("batch", "1, 8"), numbers("labels", "1,5,all", last="all")
    ([1, 8], [1, 5])
    """
    from effxfer.errors import SettingsError

    parts = [part.strip() for part in text.split(",")]
    wanted = parts[:-1] if last and parts[-1] == last else parts
    if not all(part.isdecimal() for part in wanted):
        raise SettingsError(f"--{name} is a whole number or several with commas, such as 1,2, not {text!r}")
    return [int(part) for part in wanted]


def _put(made: dict[str, Any], path: list[str], value: Any) -> None:
    from effxfer.errors import SettingsError

    for part in path[:-1]:
        made = made.setdefault(part, {})
        if not isinstance(made, dict):
            raise SettingsError(f"cannot set {'.'.join(path)}: {part} is {made!r}, not a table")
    made[path[-1]] = value
