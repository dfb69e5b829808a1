"""Build hook: take `effxfer/runtime` of this repository into the distribution, as the package `effxfer_runtime`."""

import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class RuntimeCopy(BuildHookInterface):
    """Copies the runtime beside the build; an unpacked source distribution holds the copy already."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the copy and add it to what is built."""
        house = Path(self.root).parents[1]
        if not (house / "effxfer" / "runtime").is_dir():
            return
        sys.path.insert(0, str(house))
        from effxfer.deploy.bundle.runtime_copy import PACKAGE, copy_runtime

        self.folder = TemporaryDirectory()
        package = copy_runtime(Path(self.folder.name))
        for name in ("LICENSE", "effxfer/py.typed"):
            shutil.copy(house / name, package)
        build_data["force_include"][str(package)] = PACKAGE

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the copy."""
        if hasattr(self, "folder"):
            self.folder.cleanup()
