"""What every command takes that runs one stage: the network, the data, the place, and how it is printed."""

from collections.abc import Callable, Mapping
from functools import wraps
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, cast

from effxfer.cli.options import Data, Device, DryRun, Force, Json, Out, Seed, Set, Source, table

if TYPE_CHECKING:
    from effxfer.api import Result


def _shared(
    source: Source, out: Out, data: Data = "", *, seed: Seed = None, changes: Set = None, device: Device = "auto",
    force: Force = False, dry_run: DryRun = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Declare the options that all of them share."""


SHARED = signature(_shared).parameters
FIRST = ("source", "out", "data")


def stage_command(command: Callable[..., "Callable[..., Result]"]) -> Callable[..., None]:
    """Add the shared options to a command.

    Args:
        command: Takes flags of its own; returns a function of the api with these bound.

    Returns:
        A command that passes the shared options to that function, and prints its result.
    """

    @wraps(command)
    def complete(**values: Any) -> None:
        shared = {name: values.pop(name) for name in SHARED}
        source = shared.pop("source")
        run_stage(command(**values), source, **shared)

    flags = signature(command).parameters.values()
    parameters = [
        *(SHARED[name] for name in FIRST),
        *flags,
        *(one for name, one in SHARED.items() if name not in FIRST),
    ]
    described: Any = complete
    described.__signature__ = signature(_shared).replace(
        parameters=[one.replace(kind=Parameter.POSITIONAL_OR_KEYWORD) for one in parameters]
    )
    described.__annotations__ = {one.name: one.annotation for one in parameters} | {"return": None}
    return cast(Callable[..., None], complete)


def run_stage(
    function: "Callable[..., Result]", *arguments: Any, data: str, changes: list[str] | None, dry_run: bool,
    as_json: bool, **keywords: Any,
) -> None:  # fmt: skip
    """Call a function of the api, or preview the call, and print what it returns.

    Args:
        function: Runs a stage.
        arguments: What it starts from.
        data: Empty for what the model was made with.
        changes: Texts `KEY=VALUE`.
        dry_run: Preview it.
        as_json: Print one JSON object.
        keywords: Its other arguments.
    """
    from effxfer.api import preview
    from effxfer.cli import show

    keywords |= {"data": data or None, "settings": table(changes)}
    if dry_run:
        show.document(preview(function, *arguments, **keywords))
        return
    with show.progress():
        result = function(*arguments, **keywords)
    show.result(result, as_json)


def passed_flags(**flags: Any) -> Mapping[str, Any]:
    """Return the flags that were passed."""
    return {name: value for name, value in flags.items() if value is not None}
