"""This process's place among those that `torchrun` starts, without importing torch."""

import os


def leads() -> bool:
    """Whether this process writes files and prints: always, except under `torchrun`, where only the first one does."""
    # torchrun sets it; asking torch.distributed would import torch (2 s) into every command.
    return os.environ.get("RANK", "0") == "0"
