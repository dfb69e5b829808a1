"""BERT-like text encoders (Devlin et al., 2018, https://arxiv.org/abs/1810.04805) with the layer names of timm's ViT.

RoBERTa (https://arxiv.org/abs/1907.11692), DistilBERT (https://arxiv.org/abs/1910.01108), ELECTRA
(https://arxiv.org/abs/2003.10555), MiniLM (https://arxiv.org/abs/2002.10957) and MPNet
(https://arxiv.org/abs/2004.09297) are the same network with other arguments, and so is the text tower of CLIP
(https://arxiv.org/abs/2103.00020), and ModernBERT (https://arxiv.org/abs/2412.13663). Own modules instead of
`transformers`: head pruning, adapters and layer decay of this package know `blocks.N.attn.qkv`, and its exports have
free axes.

The only input is `ids`. Padding, segments and positions follow from it, so no caller can pass them wrongly.

The spelling was chosen on ONNX Runtime 1.32, operator sets 18, 20 and 23. `CumSum` on int64 and a float bias of
attention run everywhere with free batch and length. Its optimizer fuses no attention, neither for one `qkv` nor for
three matrices; five spellings, with the operator `Attention` of set 23 among them, differ by less than the noise of a
busy machine (ratios 0.97 to 1.10 at 24 to 512 tokens). torch's own attention has fast kernels in training.

Shape legend: B batch, n tokens, D width, E width of embeddings, H heads, d width of a head.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from effxfer.errors import SettingsError, did_you_mean
from effxfer.net.text.modern.rotary import RotaryPositions, window_bias
from effxfer.net.text.relative_positions import RelativePositions
from effxfer.net.text.token_pooling import TOKEN_POOLS, causal_bias, padding_bias

INITIAL_DEVIATION = 0.02  # of all matrices, as in BERT


class QuickGELU(nn.Module):
    """The sigmoid in place of the normal distribution, as OpenAI's CLIP has it."""

    def forward(self, x: Tensor) -> Tensor:
        """Map any shape."""
        return x * (1.702 * x).sigmoid()


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "gelu_new": lambda: nn.GELU(approximate="tanh"),
    "quick_gelu": QuickGELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
}


class Encoder(nn.Module):
    """Maps token ids to one vector per token.

    Args:
        vocabulary: Number of token ids.
        width: D.
        layers: Number of blocks.
        heads: H; divides `width`.
        mlp: Hidden width of the MLPs.
        positions: Rows of the position table.
        embedding_width: E; 0 is D. Another one is projected to D, as in ELECTRA.
        segments: Rows of the segment table: 2 where a text may be a pair, 0 without the table.
        pad: Id of padding.
        separator: Id behind each segment; used only where there are segments.
        positions_from_pad: Number positions from `pad + 1`, and padding as `pad`, as RoBERTa does; otherwise from 0.
        relative_buckets: Buckets of the relative positions that all blocks share, as in MPNet; 0 is none.
        activation: A key of `ACTIVATIONS`.
        pre_norm: Norms stand before attention and MLP, with one more at the end; otherwise behind the sums, as in BERT.
        embedding_norm: Whether embeddings are normalized, as in BERT; CLIP's are not.
        causal: A token attends to those before it and to itself alone, as in CLIP.
        first_norm: Whether the first block of a `pre_norm` encoder has a norm before attention; ModernBERT's has not.
        rotary: Base of rotary positions, which then take the place of the table; 0 is none. `positions` is the most
            tokens of a text.
        local_rotary: Base in blocks that attend within a window.
        window: Largest distance of two tokens in these blocks.
        global_every: Every so many blocks, from the first on, one attends to all tokens; 1 is all of them.
        gated: MLPs have a gate: the activation of one layer times another.
        biased: Whether norms and linear layers of blocks have biases.
        eps: Of the norms.
        dropout: Of embeddings and of what attention and MLP give; in [0, 1).
        attention_dropout: Of attention's weights; in [0, 1).
        pooling: How tokens become one vector, a key of `TOKEN_POOLS`; `features` and a head's input use it.

    Attributes:
        feature_info: As timm's networks have it: what a head may tap.

    Raises:
        SettingsError: If an activation is unknown, or sizes do not fit together.
    """

    def __init__(
        self, *, vocabulary: int, width: int, layers: int, heads: int, mlp: int, positions: int = 512,
        embedding_width: int = 0, segments: int = 0, pad: int = 0, separator: int = -1,
        positions_from_pad: bool = False, relative_buckets: int = 0, activation: str = "gelu", pre_norm: bool = False,
        embedding_norm: bool = True, causal: bool = False, first_norm: bool = True, rotary: float = 0.0,
        local_rotary: float = 0.0, window: int = 0, global_every: int = 1, gated: bool = False, biased: bool = True,
        eps: float = 1e-12, dropout: float = 0.0, attention_dropout: float = 0.0, pooling: str = "mean",
    ) -> None:  # fmt: skip
        super().__init__()
        if pooling not in TOKEN_POOLS:
            raise SettingsError(f"no pooling {pooling!r}", f"it is one of {', '.join(TOKEN_POOLS)}")
        self.pooling = pooling
        if heads < 1 or width % heads:
            raise SettingsError(f"{heads} heads do not divide the width {width}", "set another number of heads")
        if activation not in ACTIVATIONS:
            near = did_you_mean(activation, ACTIVATIONS)
            raise SettingsError(f"no activation {activation!r}{near}", f"it is one of {', '.join(ACTIVATIONS)}")
        if rotary and (width // heads) % 2:
            raise SettingsError(
                f"heads of {width // heads} numbers have no halves to turn", "set another number of heads"
            )
        self.pad, self.separator, self.causal, self.window = pad, separator, causal, window
        self.embeddings = Embeddings(
            vocabulary, embedding_width or width, width, positions, segments, eps, dropout,
            first_position=pad + 1 if positions_from_pad else 0, normalized=embedding_norm,
            table=not rotary, biased=biased,
        )  # fmt: skip
        self.relative = RelativePositions(relative_buckets, heads, positions) if relative_buckets else None
        self.blocks = nn.ModuleList(
            Block(
                width, heads, mlp, activation, eps, dropout, attention_dropout, pre_norm=pre_norm,
                first_norm=first_norm or number > 0, rotary=local_rotary if number % global_every else rotary,
                local=bool(number % global_every), gated=gated, biased=biased,
            )
            for number in range(layers)
        )  # fmt: skip
        self.norm = nn.LayerNorm(width, eps=eps, bias=biased) if pre_norm else nn.Identity()
        self.feature_info = [{"module": f"blocks.{block}", "num_chs": width} for block in range(layers)]
        self.apply(_initialize)

    def real(self, ids: Tensor) -> Tensor:
        """Return which tokens of `(B, n)` are no padding, bool of the same shape."""
        return ids != self.pad

    def forward(self, ids: Tensor) -> Tensor:
        """Map ids, int64 `(B, n)`, to tokens `(B, n, D)`; those of padding mean nothing.

        Raises:
            SettingsError: If a text is longer than the position table.
        """
        real = self.real(ids)
        x = self.embeddings(ids, real, self.segments_of(ids))
        bias = padding_bias(real, x.dtype)
        if self.causal:
            bias = bias + causal_bias(ids.shape[1], x.dtype, x.device)
        if self.relative is not None:
            bias = bias + self.relative(ids.shape[1])
        local = bias
        if any(getattr(block, "local", False) for block in self.blocks):
            local = bias + window_bias(ids.shape[1], self.window, x.dtype, x.device)
        for block in self.blocks:
            x = block(x, local if getattr(block, "local", False) else bias)
        tokens: Tensor = self.norm(x)
        return tokens

    def features(self, ids: Tensor) -> Tensor:
        """Map ids, int64 `(B, n)`, to one vector `(B, D)` per text."""
        return TOKEN_POOLS[self.pooling](self(ids), self.real(ids))

    def segments_of(self, ids: Tensor) -> Tensor | None:
        """Return the segment of each token of `(B, n)`: how many separators stand before it; None without segments."""
        if self.embeddings.segments is None:
            return None
        separators = (ids == self.separator).long()
        return (separators.cumsum(1) - separators).clamp(max=self.embeddings.segments.num_embeddings - 1)


class Embeddings(nn.Module):
    """The sum of token, position and segment embeddings, normalized or not; projected if its width is not D."""

    def __init__(
        self, vocabulary: int, width: int, outputs: int, positions: int, segments: int, eps: float, dropout: float,
        *, first_position: int, normalized: bool = True, table: bool = True, biased: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.first_position = first_position
        self.tokens = nn.Embedding(vocabulary, width)
        self.most_tokens = positions - first_position
        self.positions = nn.Embedding(positions, width) if table else None
        self.segments = nn.Embedding(segments, width) if segments else None
        self.norm = nn.LayerNorm(width, eps=eps, bias=biased) if normalized else nn.Identity()
        self.drop = nn.Dropout(dropout)
        self.proj = nn.Linear(width, outputs) if width != outputs else nn.Identity()

    @property
    def longest(self) -> int:
        """Tokens that a text may have."""
        return self.most_tokens

    def forward(self, ids: Tensor, real: Tensor, segments: Tensor | None) -> Tensor:
        """Map ids `(B, n)` to `(B, n, D)`."""
        # An exporter would turn this check into a limit of the free axis `length`.
        if not torch.compiler.is_compiling() and ids.shape[1] > self.longest:
            text = f"a text of {ids.shape[1]} tokens, where the position table ends at {self.longest}"
            raise SettingsError(text, "cut texts to this number of tokens")
        x = self.tokens(ids)
        if self.positions is not None:
            x = x + self.positions(self._positions(ids, real))
        if self.segments is not None:
            x = x + self.segments(segments)
        projected: Tensor = self.proj(self.drop(self.norm(x)))
        return projected

    def _positions(self, ids: Tensor, real: Tensor) -> Tensor:
        if not self.first_position:
            return torch.arange(ids.shape[1], device=ids.device)
        return real.long().cumsum(1) * real + self.first_position - 1


class Block(nn.Module):
    """Attention and MLP, each added to its input: `(B, n, D)` to the same shape."""

    def __init__(
        self, width: int, heads: int, mlp: int, activation: str, eps: float, dropout: float, attention_dropout: float,
        *, pre_norm: bool, first_norm: bool = True, rotary: float = 0.0, local: bool = False, gated: bool = False,
        biased: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.pre_norm, self.local = pre_norm, local
        self.attn = Attention(width, heads, dropout, attention_dropout, rotary=rotary, biased=biased)
        self.norm1 = nn.LayerNorm(width, eps=eps, bias=biased) if first_norm else nn.Identity()
        self.mlp = (GatedMlp if gated else Mlp)(width, mlp, activation, dropout, biased=biased)
        self.norm2 = nn.LayerNorm(width, eps=eps, bias=biased)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Map tokens `(B, n, D)`; `bias` `(B, 1 or H, 1 or n, n)` is added to the scores of attention."""
        if self.pre_norm:
            x = x + self.attn(self.norm1(x), bias)
            return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]
        x = self.norm1(x + self.attn(x, bias))
        return self.norm2(x + self.mlp(x))  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Multi-head attention with the attributes of timm's, which head pruning reads."""

    def __init__(
        self, width: int, heads: int, dropout: float, attention_dropout: float, *, rotary: float, biased: bool
    ) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.attn_dim = heads, width // heads, width
        self.qkv = nn.Linear(width, 3 * width, bias=biased)
        self.rotary = RotaryPositions(width // heads, rotary) if rotary else None
        self.attn_drop = nn.Dropout(attention_dropout)
        self.proj = nn.Linear(width, width, bias=biased)
        self.proj_drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Map tokens `(B, n, D)`; see `Block.forward`."""
        batch, length, _ = x.shape
        prompts = length - bias.shape[-1]  # a block with prompts has more tokens than the text: they are attended to
        if prompts and self.rotary is not None:
            raise SettingsError("learned tokens have no place among rotary positions", "lora adapts any network")
        if prompts:
            bias = F.pad(bias, (0, prompts))
        # ONNX Runtime's Attention of operator set 23 does not broadcast the bias over queries; torch makes no copy.
        bias = bias.expand(-1, -1, length, -1)
        query, key, value = (
            part.view(batch, length, self.num_heads, self.head_dim).transpose(1, 2) for part in self.qkv(x).chunk(3, -1)
        )
        if self.rotary is not None:
            query, key = self.rotary(query, key)
        rate = self.attn_drop.p if self.training else 0.0
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=rate)
        projected: Tensor = self.proj(attended.transpose(1, 2).reshape(batch, length, self.attn_dim))
        return self.proj_drop(projected)  # type: ignore[no-any-return]


class Mlp(nn.Module):
    """Two linear layers with an activation between them: `(B, n, D)` to the same shape."""

    def __init__(self, width: int, hidden: int, activation: str, dropout: float, *, biased: bool) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden, bias=biased)
        self.act = ACTIVATIONS[activation]()
        self.fc2 = nn.Linear(hidden, width, bias=biased)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens."""
        mapped: Tensor = self.drop(self.fc2(self.act(self.fc1(x))))
        return mapped


class GatedMlp(Mlp):
    """An MLP whose hidden units are multiplied by those of a gate (Shazeer, 2020, https://arxiv.org/abs/2002.05202)."""

    def __init__(self, width: int, hidden: int, activation: str, dropout: float, *, biased: bool) -> None:
        super().__init__(width, hidden, activation, dropout, biased=biased)
        self.gate = nn.Linear(width, hidden, bias=biased)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens."""
        mapped: Tensor = self.drop(self.fc2(self.act(self.fc1(x)) * self.gate(x)))
        return mapped


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=INITIAL_DEVIATION)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
