"""What each of two processes does in `test_devices.py`: python -m tests.train.pair FOLDER."""

import sys
from pathlib import Path

import torch
from torch import nn

from effxfer.data.batches.batches import Batches
from effxfer.train.devices import pick_device, process_group
from effxfer.train.fit import fit
from effxfer.train.settings import FitSettings
from effxfer.train.state import Work
from tests.train.test_fit import X, Y, loss, make


def epochs(seed: int) -> Batches:
    return Batches(len(X), 8, lambda index, rng: (X[index], Y[index]), seed)


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    device = pick_device("auto" if not torch.cuda.is_available() else "cpu")
    net, broken = make(), []

    def breaking(net: nn.Module, batch: object, progress: float) -> dict[str, torch.Tensor]:
        broken.append(progress)
        only_here = device.rank == 1 and len(broken) == 7
        return {"label": loss(net, batch, progress)["label"] * (float("nan") if only_here else 1.0)}

    with process_group(device):
        rows = fit(
            net, epochs, breaking, FitSettings(epochs=3, lr=0.02, ema=0.5, patience=5), device=device, seed=3,
            work=Work(folder / "work"), validate=lambda: 10.0 * len(broken) + device.rank,
        )  # fmt: skip
    torch.save({"net": net.state_dict(), "rows": rows, "steps": len(broken)}, folder / f"{device.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
