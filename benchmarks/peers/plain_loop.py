"""Fine-tuning with a loop written by hand: timm's augmentation, optimizer and schedule, and a DataLoader.

The images are decoded before: what is compared is what is learned, not the decoder.
"""

from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.peers.case import Case

BATCH, LR, WEIGHT_DECAY, SMOOTHING = 32, 5e-4, 0.05, 0.1


class Images(torch.utils.data.Dataset[Any]):
    """Training images as files hold them, through timm's transform for training."""

    def __init__(self, case: Case) -> None:
        from timm.data import create_transform

        self.case, self.split, of = case, case.task.train, case.input
        self.transform: Any = create_transform(
            of.size, is_training=True, scale=(0.35, 1.0), mean=of.mean, std=of.std, interpolation="bicubic"
        )

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        from PIL import Image

        decode: Any = self.split.decode_row
        return self.transform(Image.fromarray(decode(row))), int(self.split.labels[row])


def train(net: nn.Module, case: Case, epochs: int) -> nn.Module:
    """Train all weights: AdamW with decay on matrices alone, one epoch of warm-up, then a cosine to 0."""
    from timm.optim import create_optimizer_v2
    from timm.scheduler.cosine_lr import CosineLRScheduler

    torch.manual_seed(case.seed)
    np.random.seed(case.seed)  # timm's transforms may draw from it
    loader = torch.utils.data.DataLoader(Images(case), BATCH, shuffle=True, drop_last=len(case.task.train) > BATCH)
    optimizer = create_optimizer_v2(net, opt="adamw", lr=LR, weight_decay=WEIGHT_DECAY)
    steps = len(loader)
    schedule = CosineLRScheduler(
        optimizer, t_initial=max(epochs * steps - steps, 1), warmup_t=steps if epochs > 1 else 0,
        warmup_lr_init=LR / 100, warmup_prefix=True, t_in_epochs=False,
    )  # fmt: skip
    loss = nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
    net.train()
    done = 0
    for _ in range(epochs):
        for pixels, labels in loader:
            optimizer.zero_grad()
            loss(net(pixels), labels).backward()
            optimizer.step()
            done += 1
            schedule.step_update(done)
    return net.eval()
