"""The option `--trust` of all commands that open networks."""

from collections.abc import Callable
from functools import wraps
from inspect import Parameter, signature
from typing import Annotated, Any, TypeVar, cast

import typer

Trust = Annotated[
    list[str] | None,
    typer.Option("--trust", metavar="MODULE:FACTORY", help="Allow a file to run this code; repeat."),
]
Command = TypeVar("Command", bound=Callable[..., Any])


def add_trust_option(command: Command) -> Command:
    """Add the option `--trust` to a command; the trust ends with the command."""

    @wraps(command)
    def call_trusting(*arguments: Any, trust: list[str] | None = None, **named: Any) -> Any:
        if not trust:
            return command(*arguments, **named)
        import effxfer

        with effxfer.trust(*trust):
            return command(*arguments, **named)

    shape = signature(command)
    trust_option = Parameter("trust", Parameter.KEYWORD_ONLY, default=None, annotation=Trust)
    described: Any = call_trusting
    described.__signature__ = shape.replace(parameters=[*shape.parameters.values(), trust_option])
    described.__annotations__ = {**command.__annotations__, "trust": Trust}
    return cast(Command, call_trusting)
