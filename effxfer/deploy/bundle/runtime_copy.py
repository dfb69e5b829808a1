"""Copy the runtime to a separate package, for bundles and for the distribution `effxfer-runtime`.

This module imports only the standard library and the runtime: the build of `packages/runtime` runs it without
dependencies.
"""

from pathlib import Path

from effxfer import __version__
from effxfer.runtime import __file__ as runtime

PACKAGE, RUNTIME = "effxfer_runtime", Path(runtime).parent


def copy_runtime(folder: Path) -> Path:
    """Copy the runtime to `folder/effxfer_runtime`, a name that does not collide with an installed effxfer.

    Returns:
        The directory of the package.
    """
    package = folder / PACKAGE
    # Sorted and without time stamps: equal inputs give equal bundles.
    for file in sorted(RUNTIME.rglob("*.py")):
        text = file.read_text(encoding="utf-8").replace("effxfer.runtime", PACKAGE)
        copy = package / file.relative_to(RUNTIME)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(f"# SPDX-License-Identifier: Apache-2.0 (effxfer {__version__})\n{text}".encode())
    return package
