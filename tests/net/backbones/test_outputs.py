"""Which tensor of a body's output a head sees."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from effxfer.net.backbones.outputs import tensor_of

MAPS, SMALLER, FEATURES, TOKENS = (
    torch.zeros(2, 4, 8, 8),
    torch.zeros(2, 6, 4, 4),
    torch.zeros(2, 3),
    torch.zeros(2, 9, 5),
)
Named = namedtuple("Named", ["aux", "logits"])


@dataclass
class Output:
    loss: Any = None
    hidden_states: Any = None
    last_hidden_state: Any = None


class ModelOutput(OrderedDict):
    """As transformers has it: what is there, in order."""


@pytest.mark.parametrize(
    ("output", "wanted"),
    [
        (MAPS, MAPS),
        ((MAPS, FEATURES), MAPS),
        ((None, [FEATURES, MAPS]), FEATURES),
        ([MAPS, SMALLER], SMALLER),
        ({"0": MAPS, "1": MAPS, "2": SMALLER}, SMALLER),
        ([SMALLER, MAPS], SMALLER),
        ([MAPS, MAPS + 1], MAPS),
        ({"aux": MAPS, "out": FEATURES}, FEATURES),
        ({"x": MAPS, "features": TOKENS, "logits": FEATURES}, FEATURES),
        (Named(MAPS, FEATURES), FEATURES),
        (Output(hidden_states=(MAPS,), last_hidden_state=TOKENS), TOKENS),
        (ModelOutput(last_hidden_state=TOKENS, pooler_output=FEATURES), FEATURES),
        (ModelOutput(other={"deep": FEATURES}), FEATURES),
    ],
)
def test_the_tensor_is_that_of_the_documented_order(output, wanted):
    assert tensor_of(output) is wanted


@pytest.mark.parametrize("output", [None, "text", 3, [], {}, (None, None), {"a": "b"}, Output(), Output])
def test_what_holds_no_tensor_is_named(output):
    with pytest.raises(TypeError, match="not a tensor"):
        tensor_of(output)
