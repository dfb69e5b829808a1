"""End a training in the middle of a step, as a killed process does."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from effxfer.stages.train import finetune


@contextmanager
def killed_after(step: int) -> Iterator[None]:
    """Raise behind a step of the training in this block, what no handler takes; expect it at the end."""

    class KilledError(BaseException):
        pass

    real = finetune.fit

    def kill(*arguments, **named):
        def after(number):
            named["after_step"](number)
            if number == step:
                raise KilledError

        return real(*arguments, **{**named, "after_step": after})

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(finetune, "fit", kill)
        yield
