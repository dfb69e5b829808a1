"""Child process of `doctor.probe_torch`: import torch and torchvision, and print their facts.

It is a separate process, because importing a torchvision that was built for another torch raises or crashes.
"""

import json
import sys
import warnings
from typing import Any


def import_torch() -> dict[str, Any]:
    """Import torch, then torchvision; a failure is reported under `error`."""
    result: dict[str, Any] = {}
    try:
        import torch

        result |= {"torch": str(torch.__version__), "threads": torch.get_num_threads(), "built_for": torch.version.cuda}
        result["cuda"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        result["mps"] = torch.backends.mps.is_available()
        import torchvision

        result["torchvision"] = str(torchvision.__version__)
    except Exception as error:  # a broken install raises anything: OSError, RuntimeError, AttributeError
        result["error"] = (f"{type(error).__name__}: {error}".splitlines() or ["?"])[0][:200]
    return result


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.stdout.write("\n" + json.dumps(import_torch()) + "\n")
