"""Description of a stage for the runner, as data: a stage's function is imported only when it runs."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from effxfer.stages.settings.base import StageSettings

Kind = Literal["network", "ticket", "adapter", "files", "comparison"]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One kind of stage.

    Attributes:
        name: Name in keys, manifests and pipelines.
        settings: Settings class of the stage.
        load: Function of the stage, as `module:function`.
        kind: Input and output. `network`, `ticket` and `adapter` make a network from a network, a ticket, or a network
            and an adapter. `files` adds files to a network; `comparison` measures several models, without a network.
        distributed: Whether all processes of `torchrun` run the stage; otherwise only the first one does.
        leaves_ticket: Whether the result contains a ticket.
        precondition: Check before images are decoded, as `module:function`. It is called with the stage's name, the
            network and the settings, and raises if the stage is impossible. Empty: no check.
    """

    name: str
    settings: type[StageSettings]
    load: str
    kind: Kind = "network"
    distributed: bool = False
    leaves_ticket: bool = False
    precondition: str = ""

    def function(self) -> Callable[..., Any]:
        """Import the stage's function."""
        return import_reference(self.load)

    def check(self, net: Any, settings: StageSettings) -> None:
        """Raise if the stage is impossible on a network."""
        if self.precondition:
            import_reference(self.precondition)(self.name, net, settings)


def import_reference(reference: str) -> Callable[..., Any]:
    """Import the function that `module:function` names."""
    module, _, name = reference.partition(":")
    function: Callable[..., Any] = getattr(import_module(module), name)
    return function
