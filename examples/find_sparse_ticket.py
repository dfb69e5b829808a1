"""Find a sparse ticket by iterative magnitude pruning on your own data, with your own training loop.

`python examples/find_sparse_ticket.py` takes about ten seconds on one core. Frankle & Carbin, 2019,
https://arxiv.org/abs/1803.03635: train, remove the smallest weights, rewind the others, train again.
"""

from collections.abc import Callable

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from effxfer.prune.weights.lottery import Ticket, find_ticket
from effxfer.prune.weights.mask import Mask


def loop(images: torch.Tensor, labels: torch.Tensor, epochs: int) -> Callable[[nn.Module, Mask, int], float]:
    """Make the function that trains one round and returns what is to be kept: accuracy on the last 500 images."""

    def train(net: nn.Module, mask: Mask, number: int) -> float:
        torch.manual_seed(0)  # every round sees the same batches
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        for _ in range(epochs):
            for rows in torch.randperm(len(images) - 500).split(64):
                optimizer.zero_grad()
                F.cross_entropy(net(images[rows]), labels[rows]).backward()
                optimizer.step()
                mask.apply_(net)  # removed weights stay zero
        with torch.inference_mode():
            score = float((net(images[-500:]).argmax(1) == labels[-500:]).float().mean())
        print(f"round {number}: {1 - mask.sparsity:5.1%} of the weights, accuracy {score:.1%}")
        return score

    return train


def main() -> Ticket:
    torch.manual_seed(0)
    digits = load_digits()
    images, labels = torch.tensor(digits.data).float() / 16, torch.tensor(digits.target)
    net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))
    ticket = find_ticket(
        net, loop(images, labels, epochs=4), rounds=4, sparsity=0.9, exclude=["4"], max_drop=0.03
    )  # fmt: skip
    zeros = sum(int((weight == 0).sum()) for weight in net.parameters())
    print(f"the ticket of round {ticket.number} has {zeros} zeros; its mask: {list(ticket.mask.keep)}")
    return ticket


if __name__ == "__main__":
    main()
