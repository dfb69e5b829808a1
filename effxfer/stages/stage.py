"""What the runner must know of a stage, as data: nothing heavy is imported before a stage has work to do."""

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
        name: As keys, manifests and pipelines write it.
        settings: The class of its settings.
        load: Its function, as `module:function`.
        kind: `network` makes a network from a network, `ticket` from a ticket, `adapter` from a network and an adapter;
            `files` adds files to a network's directory; `comparison` measures several models and makes no network.
        distributed: Whether all processes of `torchrun` run it; otherwise the first one runs it alone.
        leaves_ticket: Whether its result holds a ticket.
        precondition: `module:function`, called with the stage's name, the network and the settings before images are
            decoded; raises what makes the stage impossible. Empty: none.
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
        """Raise what makes the stage impossible on a network."""
        if self.precondition:
            import_reference(self.precondition)(self.name, net, settings)


def import_reference(reference: str) -> Callable[..., Any]:
    """Import the function that `module:function` names."""
    module, _, name = reference.partition(":")
    function: Callable[..., Any] = getattr(import_module(module), name)
    return function
