"""Networks as somebody else writes them: with other inputs, outputs and needs than a backbone's."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


class Base(nn.Module):
    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, 8, 3, 2, 1), nn.BatchNorm2d(8)

    def maps(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)).relu()

    def forward(self, x: Tensor) -> Any:
        return self.maps(x)


class Pair(Base):
    def forward(self, x: Tensor) -> Any:
        return self.maps(x), self.maps(x).mean((2, 3))


class Table(Base):
    def forward(self, x: Tensor) -> Any:
        return {"auxiliary": self.maps(x)[:, :2], "features": self.maps(x)}


@dataclass
class Output:
    loss: Any = None
    last_hidden_state: Any = None


class Tokens(Base):
    def forward(self, x: Tensor) -> Any:
        return Output(last_hidden_state=self.maps(x).flatten(2).transpose(1, 2))


class Auxiliary(Base):
    """Gives more in training, as torchvision's Inception does."""

    def __init__(self, aux_logits: bool = True) -> None:
        super().__init__()
        self.aux_logits = aux_logits

    def forward(self, x: Tensor) -> Any:
        features = self.maps(x).mean((2, 3))
        return (features, features * 2) if self.training and self.aux_logits else features


class Obstinate(Auxiliary):
    """Gives more in training, and cannot be asked not to."""

    def __init__(self) -> None:
        super().__init__()


class Grey(Base):
    pretrained_cfg = {  # noqa: RUF012
        "input_size": (1, 32, 32), "crop_pct": 1.0, "interpolation": "bilinear", "mean": (0.5,), "std": (0.25,),
    }  # fmt: skip

    def __init__(self) -> None:
        super().__init__(1)


class Sized(Base):
    """Takes images of one size, and says so in its arguments."""

    def __init__(self, img_size: int = 32) -> None:
        super().__init__()
        self.linear = nn.Linear(8 * (img_size // 2) ** 2, 4)

    def forward(self, x: Tensor) -> Any:
        return self.linear(self.maps(x).flatten(1))


class Fixed(Sized):
    def __init__(self) -> None:
        super().__init__()


class Lazy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.LazyConv2d(8, 3, 2, 1)

    def forward(self, x: Tensor) -> Any:
        return self.conv(x)


class Bare(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return x.mean((2, 3))


class Deaf(Base):
    def forward(self, x: Tensor) -> Any:
        return self.conv.weight.sum() + x.new_zeros(len(x), 8)


class OneBatch(Base):
    def forward(self, x: Tensor) -> Any:
        return self.maps(x).reshape(1, -1)


class Complex(Base):
    def forward(self, x: Tensor) -> Any:
        return torch.fft.fft(self.maps(x).mean((2, 3)))


class Whole(Base):
    def forward(self, x: Tensor) -> Any:
        return self.maps(x).mean((2, 3)).long()


class Five(Base):
    def forward(self, x: Tensor) -> Any:
        return self.maps(x)[:, :, None]


class Single(Base):
    def forward(self, x: Tensor) -> Any:
        return self.maps(x).mean((1, 2, 3))


class Words(Base):
    def forward(self, x: Tensor) -> Any:
        return "words"


class NotANumber(Base):
    def forward(self, x: Tensor) -> Any:
        return self.maps(x).mean((2, 3)) * float("nan")


class Norm(Base):
    """One value for each channel where the batch is one image."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.BatchNorm1d(8)

    def forward(self, x: Tensor) -> Any:
        return self.last(self.maps(x).mean((2, 3)))


def number() -> nn.Module:
    return 3  # type: ignore[return-value]


def raises() -> nn.Module:
    raise ZeroDivisionError("nothing left")


def wants(width: int) -> nn.Module:
    return Base(width)


class Leaving(Base):
    def forward(self, _x: Tensor) -> Tensor:
        raise SystemExit(0)


def leaves() -> nn.Module:
    raise SystemExit(0)
