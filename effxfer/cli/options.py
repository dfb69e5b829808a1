"""Options that several commands share."""

from pathlib import Path
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check settings, data and paths, and print the plan.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite a result of different inputs.")]
Seed = Annotated[int | None, typer.Option(help="Random seed.  [default: 0]")]
Out = Annotated[Path, typer.Option(help="Output directory.")]
Device = Annotated[str, typer.Option(help="Device: auto, cpu, cuda or cuda:1.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change any setting; repeat.")]
Budget = Annotated[str | None, typer.Option(metavar="TIME", help="Time budget, e.g. 90s, 10m, 1h30m.")]
Data = Annotated[str, typer.Option(help="Image folder by class, table (.csv, .parquet), digits, or texts.")]
Tables = Annotated[
    list[str] | None,
    typer.Option("--data", help="Image folder by class, table (.csv, .parquet), digits, or texts; repeat for tasks."),
]
Source = Annotated[
    str, typer.Argument(help="Model directory, bundled model, timm:NAME[@FILE], torchvision:NAME[@FILE], hf:FOLDER.")
]


def table(changes: list[str] | None, **flags: Any) -> dict[str, Any]:
    """Build a settings table from the passed flags (`fit__epochs` is `fit.epochs`) and `KEY=VALUE` texts.

    Raises:
        SettingsError: If a text does not have the form `KEY=VALUE`.
    """
    from effxfer.errors import SettingsError
    from effxfer.toml import parse_value, split_key

    settings: dict[str, Any] = {}
    for name, value in flags.items():
        if value is not None:
            _set_nested(settings, name.split("__"), value)
    for text in changes or []:
        key, mark, value = text.partition("=")
        if not mark:
            raise SettingsError(f"{text!r} is not KEY=VALUE", "for example --set fit.ema=0.99")
        _set_nested(settings, split_key(key), parse_value(value.strip()))
    return settings


def duration(text: str) -> float:
    """Parse a duration such as `90s`, `10m` or `1h30m` into seconds.

    >>> duration("1h30m"), duration("90")
    (5400.0, 90.0)

    Raises:
        SettingsError: If the text is not a duration, or not above 0.
    """
    import re

    from effxfer.errors import SettingsError

    parts = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip())
    hours, minutes, seconds = (float(part or 0) for part in parts.groups()) if parts else (0.0, 0.0, 0.0)
    total = 3600 * hours + 60 * minutes + seconds
    if total <= 0:
        raise SettingsError(f"{text!r} is not a time", "use for example 90s, 10m or 1h30m")
    return total


def seconds_of(budget: str | None) -> float | None:
    """Parse an optional time budget; None means no limit."""
    return duration(budget) if budget else None


def words(text: str) -> list[str]:
    """Split a comma-separated list.

    >>> words("full, lp_ft,")
    ['full', 'lp_ft']
    """
    return [part for part in _between_commas(text) if part]


def _between_commas(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def numbers(name: str, text: str, *, last: str = "") -> list[int]:
    """Parse comma-separated whole numbers.

    Args:
        name: Name of the option, for the error message.
        text: Value of the option.
        last: A word that may end the list and is ignored.

    Raises:
        SettingsError: If a part is not a whole number.

    >>> numbers("batch", "1, 8"), numbers("labels", "1,5,all", last="all")
    ([1, 8], [1, 5])
    """
    from effxfer.errors import SettingsError

    parts = _between_commas(text)
    digits = parts[:-1] if last and parts[-1] == last else parts
    if not all(part.isdecimal() for part in digits):
        raise SettingsError(f"--{name} takes comma-separated whole numbers, such as 1,2, not {text!r}")
    return [int(part) for part in digits]


def _set_nested(table: dict[str, Any], path: list[str], value: Any) -> None:
    from effxfer.errors import SettingsError

    for part in path[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise SettingsError(f"cannot set {'.'.join(path)}: {part} is {table!r}, not a table")
    table[path[-1]] = value
