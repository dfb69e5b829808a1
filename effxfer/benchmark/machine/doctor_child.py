"""The process that `doctor.probe_torch` starts: imports torch and torchvision, prints what it found.

A process of its own, because importing a torchvision that was built for another torch raises or crashes.
"""

import json
import sys
import warnings
from typing import Any


def look() -> dict[str, Any]:
    """Import torch, then torchvision; whatever goes wrong ends up under `error`."""
    found: dict[str, Any] = {}
    try:
        import torch

        found |= {"torch": str(torch.__version__), "threads": torch.get_num_threads(), "built_for": torch.version.cuda}
        found["cuda"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        found["mps"] = torch.backends.mps.is_available()
        import torchvision

        found["torchvision"] = str(torchvision.__version__)
    except Exception as error:  # a broken install raises anything: OSError, RuntimeError, AttributeError
        found["error"] = (f"{type(error).__name__}: {error}".splitlines() or ["?"])[0][:200]
    return found


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.stdout.write("\n" + json.dumps(look()) + "\n")
