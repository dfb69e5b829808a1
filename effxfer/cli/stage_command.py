"""Shared options of the commands that run one stage, and the call of the api behind them."""

from collections.abc import Callable, Mapping
from functools import wraps
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, cast

from effxfer.cli.options import Device, DryRun, Force, Json, Out, Seed, Set, Source, Tables, table

if TYPE_CHECKING:
    from effxfer.api import Result


def _shared_options(
    source: Source, out: Out, data: Tables = None, *, seed: Seed = None, changes: Set = None, device: Device = "auto",
    force: Force = False, dry_run: DryRun = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Declare the options that all stage commands share."""


SHARED = signature(_shared_options).parameters
FIRST = ("source", "out", "data")


def stage_command(command: Callable[..., "Callable[..., Result]"]) -> Callable[..., None]:
    """Add the shared options to a command, except those that it declares itself.

    Args:
        command: Takes its own flags; returns an api function with these bound.

    Returns:
        A command that passes the shared options to that function and prints its result.
    """

    @wraps(command)
    def run_with_options(**values: Any) -> None:
        flag_values = {name: values[name] for name in signature(command).parameters}
        shared = {name: values[name] for name in SHARED}
        source = shared.pop("source")
        run_stage(command(**flag_values), source, **shared)

    flags = signature(command).parameters.values()
    parameters = [
        *(signature(command).parameters.get(name, SHARED[name]) for name in FIRST),
        *(flag for flag in flags if flag.name not in FIRST),
        *(option for name, option in SHARED.items() if name not in FIRST),
    ]
    described: Any = run_with_options
    # Typer reads a command's options from its signature.
    described.__signature__ = signature(_shared_options).replace(
        parameters=[option.replace(kind=Parameter.POSITIONAL_OR_KEYWORD) for option in parameters]
    )
    described.__annotations__ = {option.name: option.annotation for option in parameters} | {"return": None}
    return cast(Callable[..., None], run_with_options)


def run_stage(
    function: "Callable[..., Result]", *arguments: Any, data: str | list[str] | None, changes: list[str] | None,
    dry_run: bool, as_json: bool, **keywords: Any,
) -> None:  # fmt: skip
    """Call an api function, or preview the call, and print the result.

    Args:
        function: The api function that runs the stage.
        arguments: Its positional arguments, such as the source network.
        data: Source of images, or several, a task each; empty uses the data that the model was trained on.
        changes: Settings as `KEY=VALUE` texts.
        dry_run: Only print a preview of the call.
        as_json: Print one JSON object.
        keywords: Further keyword arguments of the function.
    """
    from effxfer.api import preview
    from effxfer.cli import show

    # A single source stays as it is written, not a list of one, in previews and manifests.
    named = data[0] if isinstance(data, list) and len(data) == 1 else data or None
    keywords |= {"data": named, "settings": table(changes)}
    if dry_run:
        show.document(preview(function, *arguments, **keywords))
        return
    with show.progress():
        result = function(*arguments, **keywords)
    show.result(result, as_json)


def passed_flags(**flags: Any) -> Mapping[str, Any]:
    """Return the flags that were passed."""
    return {name: value for name, value in flags.items() if value is not None}
