"""Bodies that end early: what comes after the deepest layer that feeds the head is left out.

A body may have any `forward`. The first module that is left out and still called takes what it is given for the body's
output, and ends the pass. It is called by the body itself, and not by another module of it: an exporter would lose its
way otherwise. Modules at the end of an `nn.Sequential` simply leave it.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from effxfer.errors import ModelFileError, did_you_mean
from effxfer.net.hooks import as_evaluated, hooks
from effxfer.net.net import Net
from effxfer.net.taps import example_input, pool


class ExitSignal(Exception):  # noqa: N818
    """A body's pass ends here, with its output; raised and caught within it.

    Attributes:
        output: What the body gives.
    """

    def __init__(self, output: Tensor) -> None:
        super().__init__("a body ended early outside of its own pass")
        self.output = output


class EarlyExit(nn.Module):
    """A body that ends early; its class is derived from this one and the body's own."""

    exits_early = True

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Run the body up to its end."""
        try:
            return super().forward(*inputs, **named)
        except ExitSignal as signal:
            return signal.output


class ExitPoint(nn.Module):
    """In the place of a module that is left out: ends the body's pass with what it is given."""

    def __call__(self, x: Tensor, *_more: Any, **_named: Any) -> Tensor:
        """Raise `ExitSignal`. It overrides `__call__`, so that forward hooks do not fire."""
        raise ExitSignal(x)


def exit_early(net: Net, *, gone: Sequence[str]) -> None:
    """Let the body end where the first of the named submodules is called, and leave them out.

    Raises:
        ModelFileError: If the body has no such submodule.
    """
    modules = dict(net.body.named_modules())
    for name in gone:
        if name not in modules:
            raise ModelFileError(f"the body has no layer {name!r}{did_you_mean(name, modules)}")
    for name in sorted(gone, key=list(modules).index, reverse=True):
        path, _, leaf = name.rpartition(".")
        owner = net.body.get_submodule(path)
        if path and type(owner) is nn.Sequential and leaf == str(len(owner) - 1):
            del owner[-1]
        elif not path:
            setattr(owner, leaf, ExitPoint().train(owner.training))
        else:
            raise ModelFileError(f"the body cannot end at {name}, in the middle of {path}", "choose the end of a stage")
    if not isinstance(net.body, EarlyExit):
        kind = type(net.body)
        net.body.__class__ = type(kind.__name__, (EarlyExit, kind), {})


@torch.no_grad()
def modules_after(net: Net, tap: str) -> list[str]:
    """Name the submodules of the body that are called only when `tap` is done, for `exit_early`; none if nothing is.

    A submodule inside another one that is named is not named.
    """
    if tap == "out":
        return []
    done, before, later = False, set[str](), dict[str, None]()

    def called(name: str) -> Any:
        return lambda _module, _inputs: later.setdefault(name) if done else before.add(name)

    def finished(_module: nn.Module, _inputs: Any, _output: Any) -> None:
        nonlocal done
        done = True

    handles = [m.register_forward_pre_hook(called(n)) for n, m in net.body.named_modules()]
    handles.append(net.body.get_submodule(tap).register_forward_hook(finished))
    with as_evaluated(net), hooks(handles):
        net.body(example_input(net))
    gone = [name for name in later if name not in before and not isinstance(net.body.get_submodule(name), ExitPoint)]
    return [name for name in gone if not any(name.startswith(f"{other}.") for other in gone)]


@torch.no_grad()
def exits_cleanly(net: Net, tap: str, gone: Sequence[str]) -> bool:
    """Whether the body, ended early, gives just what `tap` gives; pooled, because the body's output may be."""
    if not gone:
        return False
    trial = deepcopy(net).eval()
    x = example_input(trial).uniform_(0, 1)
    expected = trial.outputs(x, (tap,))[tap]
    try:
        exit_early(trial, gone=gone)
        outputs = trial.outputs(x, (tap,))
    except Exception:  # whatever a foreign backbone raises where its layers are gone
        return False
    return outputs["out"].shape == expected.shape and torch.equal(pool(outputs["out"]), pool(expected))
