"""What all commands take that open networks."""

from collections.abc import Callable
from functools import wraps
from inspect import Parameter, signature
from typing import Annotated, Any, TypeVar, cast

import typer

Trust = Annotated[
    list[str] | None,
    typer.Option("--trust", metavar="MODULE:FACTORY", help="Run this code where a file names it; repeat."),
]
Command = TypeVar("Command", bound=Callable[..., Any])


def opening(command: Command) -> Command:
    """Give a command the option `--trust`, for as long as it runs."""

    @wraps(command)
    def opened(*arguments: Any, trust: list[str] | None = None, **named: Any) -> Any:
        if not trust:
            return command(*arguments, **named)
        from effxfer.net.backbones.trust import trusting

        with trusting(*trust):
            return command(*arguments, **named)

    shape = signature(command)
    more = Parameter("trust", Parameter.KEYWORD_ONLY, default=None, annotation=Trust)
    described: Any = opened
    described.__signature__ = shape.replace(parameters=[*shape.parameters.values(), more])
    described.__annotations__ = {**command.__annotations__, "trust": Trust}
    return cast(Command, opened)
