"""What a child process runs first: it ends with its parent, and takes effxfer from where its parent has it.

`python -P child.py PARENT TARGET WORD...` runs a script; with MODULE@FOLDER for TARGET, a module of the package effxfer
in FOLDER. Only that package is taken from there: what lies beside it, such as in a working directory, is not imported.
This file itself imports the standard library alone.
"""

import os
import runpy
import signal
import sys
import threading
import time
from contextlib import suppress

LOOK = 1.0
PR_SET_PDEATHSIG = 1


def end_with(parent: int) -> None:
    """End this process when its parent ends: by the kernel where it can, else by looking every second."""
    watched = sys.platform != "linux" or not _by_kernel()
    if os.getppid() != parent:
        os._exit(1)
    if watched:
        threading.Thread(target=_look, args=(parent,), daemon=True).start()


def _by_kernel() -> bool:
    with suppress(ImportError, OSError, AttributeError):
        import ctypes

        return bool(ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL)) == 0)
    return False


def _look(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK)
    os._exit(1)


def lend(folder: str) -> None:
    """Make the package effxfer in `folder` importable, and nothing that lies beside it."""
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("effxfer", os.path.join(folder, "__init__.py"), submodule_search_locations=[folder])  # noqa: PTH118
    if spec is None or spec.loader is None:
        raise ImportError(folder)
    sys.modules["effxfer"] = package = module_from_spec(spec)
    spec.loader.exec_module(package)


def main() -> None:
    """Run what the arguments name."""
    parent, target = int(sys.argv[1]), sys.argv[2]
    module, mark, folder = target.partition("@")
    sys.argv[:] = sys.argv[2:]
    end_with(parent)
    if mark and module.startswith("effxfer."):
        lend(folder)
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(target, run_name="__main__")


if __name__ == "__main__":
    main()
