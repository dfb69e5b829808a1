"""A network that records how to rebuild itself.

Shape legend: B batch, S side of images, n tokens of texts, D features, C columns of the head.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from effxfer.data.continual.memory import Memory
from effxfer.errors import SettingsError, out_of_memory
from effxfer.net.backbones.architectures import build_body
from effxfer.net.heads.label_words import reads_mask
from effxfer.net.heads.pools import pool_of
from effxfer.net.hooks import as_evaluated
from effxfer.net.taps import capture_taps, example_input, pool, with_channels_second
from effxfer.net.text.text_tower import TextTower
from effxfer.net.text.token_pooling import TOKEN_POOLS, mean_of_tokens
from effxfer.runtime.inputs import SIZE_UNITS, Input
from effxfer.runtime.multi_task.task_outputs import TaskOutputs
from effxfer.runtime.outputs.base import Output
from effxfer.runtime.outputs.single_label import SingleLabel
from effxfer.runtime.text.tokens import Tokens

Edit = dict[str, Any]
BODY, KEEP = "body.", "keep/"
BODY_PREFIXES = (BODY, KEEP + "body/")  # of names in a state: the body's tensors, and the masks of its weights


def mask_name(weight: str) -> str:
    """Return the name of the buffer that holds a weight's mask; the name of a buffer has no dots.

    >>> mask_name("body.stem.0.weight")
    'keep/body/stem/0/weight'
    """
    return KEEP + weight.replace(".", "/")


class Net(nn.Module):
    """A backbone and a head, with the edits that produced them.

    `edits.rebuild` makes a network of the same shape from `backbone` and `edits`: weights are stored without code.

    Attributes:
        backbone: Arguments of `build_body`: `{"source": ..., "args": {...}}`.
        input: Preprocessing of its input.
        output: The kind of label that the head answers with, and the names of its columns; no columns before the first
            head.
        taps: Names of the body's submodules whose outputs feed the head; `out` is the body's own output.
        edits: Architecture changes, in order.
        body: Maps images `(B, 3, S, S)` to features or feature maps; or ids `(B, n)` to tokens `(B, n, D)`.
        head: Maps features `(B, D)` to logits `(B, C)`; where the output is per position, each token of a text.
        smoothing: The largest label smoothing that it was trained with for its present classes; 0 is none.
        text: The text tower whose embeddings its classes are; None without one.
        memory: What it keeps of tasks that it learned one after another; None if it learned none so.
    """

    def __init__(self, backbone: Mapping[str, Any], input: Input) -> None:
        super().__init__()
        self.backbone, self.input = dict(backbone), input
        self.output: Output = SingleLabel()
        self.taps: tuple[str, ...] = ("out",)
        self.edits: list[Edit] = []
        self.smoothing = 0.0
        self.text: TextTower | None = None
        self.memory: Memory | None = None
        self.body = build_body(**self.backbone)
        # Before a head or weights come: lazy layers have no shapes yet.
        self._materialize()
        self.head: nn.Module = nn.Identity()

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the head's columns; empty before the first head."""
        return self.output.classes

    @torch.no_grad()
    def _materialize(self) -> None:
        """Initialize lazy layers by a forward pass."""
        if any(isinstance(parameter, nn.UninitializedParameter) for parameter in self.body.parameters()):
            with as_evaluated(self.body):
                self.body(torch.from_numpy(self.input.example()))

    def pooled_taps(self, x: Tensor, taps: Sequence[str]) -> dict[str, Tensor]:
        """Map an input `(B, ...)` to the pooled features `(B, D)` of each of `taps`."""
        return {name: self.pool_tap(output, x) for name, output in self.outputs(x, taps).items()}

    def pool_tap(self, output: Tensor, x: Tensor) -> Tensor:
        """Pool what a tap gives for an input to `(B, D)`: the mean over positions, or as the body of texts says.

        Padding takes no part, so that the features of a text do not depend on its neighbours in the batch. A head of
        label words takes the place of the mask alone.
        """
        real = self.input.real(x)
        if real is None or output.dim() != 3:
            return pool(output)
        if reads_mask(self.head) and isinstance(self.input, Tokens):
            return mean_of_tokens(output, self.input.is_mask(x))
        return TOKEN_POOLS[getattr(self.body, "pooling", "mean")](output, real)

    def pool_inputs(self, x: Tensor, taps: Sequence[str]) -> list[Tensor]:
        """Map an input `(B, ...)` to what a head with its own pooling takes of each of `taps`.

        Images have their maps and tokens. Texts have pooled features, because such a head would see padding.
        """
        outputs, padded = self.outputs(x, taps), self.input.real(x) is not None
        return [self.pool_tap(outputs[tap], x) if padded else outputs[tap] for tap in taps]

    def outputs(self, x: Tensor, taps: Sequence[str]) -> dict[str, Tensor]:
        """Map an input `(B, ...)` to the outputs of `taps`: maps, tokens or features."""
        with capture_taps(self.body, taps) as outputs:
            out = self.body(x)
        return {**outputs, "out": with_channels_second(self.body, out)}

    def features(self, x: Tensor) -> Tensor:
        """Map an input `(B, ...)` to the input of the head's classifier: `(B, D)`, with the head's own pooling.

        Where the head answers for each position of a text, these are tokens `(B, n, D)`; with several tasks the pooled
        features stand in front of them, `(B, 1 + n, D)`.
        """
        if self.output.per == "position":
            return self._text_and_tokens(x) if isinstance(self.output, TaskOutputs) else self._tokens(x)
        own_pool = pool_of(self.head)
        if own_pool is not None:
            return own_pool(self.pool_inputs(x, self.taps))  # type: ignore[no-any-return]
        outputs = self.outputs(x, self.taps)
        pooled = [self.pool_tap(outputs[tap], x) for tap in self.taps]
        return pooled[0] if len(pooled) == 1 else torch.cat(pooled, 1)

    def _tokens(self, x: Tensor) -> Tensor:
        outputs = self.outputs(x, self.taps)
        tokens = [outputs[tap] for tap in self.taps]
        return tokens[0] if len(tokens) == 1 else torch.cat(tokens, 2)

    def _text_and_tokens(self, x: Tensor) -> Tensor:
        outputs = self.outputs(x, self.taps)
        pairs = [torch.cat([self.pool_tap(outputs[tap], x)[:, None], outputs[tap]], 1) for tap in self.taps]
        return pairs[0] if len(pairs) == 1 else torch.cat(pairs, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Map an input `(B, ...)` to logits `(B, C)`, or for each position of a text `(B, n, C)`."""
        logits: Tensor = self.head(self.features(x))
        return logits

    @torch.no_grad()
    def set_input_size(self, size: int) -> None:
        """Set the side of the input images.

        Raises:
            SettingsError: If the backbone cannot take them.
        """
        before = self.input
        if self.memory is not None and size != before.size:
            text = f"the network's memory holds {before.unit} of {before.size} {SIZE_UNITS[before.kind]}, not {size}"
            raise SettingsError(text, "leave size out")
        self.input = before.with_size(size)
        try:
            with as_evaluated(self):
                self.pooled_taps(example_input(self), self.taps)
        except Exception as error:  # a user's backbone may raise anything for an unsupported size
            self.input = before
            if out_of_memory(error):
                raise
            of_size = f"{self.input.unit} of {size} {SIZE_UNITS[self.input.kind]}"
            text = f"the backbone cannot take {of_size}: {str(error).splitlines()[0]}"
            raise SettingsError(text, f"leave size out, or give {before.size}") from None

    @torch.no_grad()
    def apply_masks_(self) -> None:
        """Zero, in place, the weights that a ticket removed; training calls this after every step."""
        for name, keep in self.masks().items():
            weight = self.raw_weight(name)
            weight.mul_(keep.view(torch.uint8).to(weight.dtype))  # bool converts half as fast

    def raw_weight(self, name: str) -> Tensor:
        """Return a weight as stored, without the change of an adapter."""
        path, _, leaf = name.rpartition(".")
        layer = self.get_submodule(path)
        changed: Any = getattr(layer, "parametrizations", {})
        return changed[leaf].original if leaf in changed else layer.get_parameter(leaf)

    def masks(self) -> dict[str, Tensor]:
        """Return the mask of each masked weight, by the weight's name; true marks weights in use."""
        masks = dict(self.named_buffers(recurse=False))
        return {n.removeprefix(KEEP).replace("/", "."): m for n, m in masks.items() if n.startswith(KEEP)}
