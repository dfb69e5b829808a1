"""Bootstrap of a child process: end with the parent, and import effxfer from the parent's folder.

`python -P child.py PARENT TARGET WORD...` runs a script; with MODULE@FOLDER for TARGET, a module of the package effxfer
in FOLDER. Only that package is imported from there, and nothing beside it, such as files of a working directory.
This file imports only the standard library.
"""

import os
import runpy
import signal
import sys
import threading
import time
from contextlib import suppress

POLL_SECONDS = 1.0  # without the kernel's help an orphan lives this much longer; each poll wakes the CPU
PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>; Python has no name for it


def end_with(parent: int) -> None:
    """End this process when its parent ends: by the kernel if possible, else by polling every second."""
    watched = sys.platform != "linux" or not _set_death_signal()
    # After the request: a parent that ended before it sends no signal any more (prctl(2)).
    if os.getppid() != parent:
        os._exit(1)
    if watched:
        threading.Thread(target=_poll_parent, args=(parent,), daemon=True).start()


def _set_death_signal() -> bool:
    with suppress(ImportError, OSError, AttributeError):
        import ctypes

        return bool(ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL)) == 0)
    return False


def _poll_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    # Not `sys.exit`, which would end this thread only.
    os._exit(1)


def load_package(folder: str) -> None:
    """Make the package effxfer in `folder` importable, and nothing beside it."""
    from importlib.util import module_from_spec, spec_from_file_location

    # By its path: an entry in `sys.path` would also offer everything that lies beside the package.
    spec = spec_from_file_location("effxfer", os.path.join(folder, "__init__.py"), submodule_search_locations=[folder])  # noqa: PTH118
    if spec is None or spec.loader is None:
        raise ImportError(folder)
    sys.modules["effxfer"] = package = module_from_spec(spec)
    spec.loader.exec_module(package)


def main() -> None:
    """Run the script or module of the arguments."""
    parent, target = int(sys.argv[1]), sys.argv[2]
    module, mark, folder = target.partition("@")
    sys.argv[:] = sys.argv[2:]
    end_with(parent)
    if mark and module.startswith("effxfer."):
        load_package(folder)
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(target, run_name="__main__")


if __name__ == "__main__":
    main()
