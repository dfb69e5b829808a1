"""Get the files of ONNX Runtime Web for the page, from a folder, from node_modules, or from npm."""

import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from effxfer.errors import ResourceError
from effxfer.process.scratch import scratch_folder

PACKAGE = "onnxruntime-web"
# Pinned, because a bundle must be the same tomorrow: the version that the page was written for.
VERSION = "1.30.0"
# The least that WebAssembly needs, without WebGPU.
FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
HINT = f"npm install {PACKAGE}, or give the folder that holds {FILES[0]} as `ort_web`"


@dataclass(frozen=True, kw_only=True)
class OrtWeb:
    """ONNX Runtime Web with its WebAssembly backend, without WebGPU: about 14 MB.

    Attributes:
        version: Version of the npm package; `unknown` without a `package.json`.
        files: Contents by name.
    """

    version: str
    files: dict[str, bytes]


def find_ort_web(folder: str = "", *, start: Path | None = None, seconds: float = 300.0) -> OrtWeb:
    """Read the files from `folder`, else from the nearest node_modules, else fetch them with npm.

    Args:
        folder: The package (`.../node_modules/onnxruntime-web`) or its `dist`; empty searches for it.
        start: Folder to start the search for node_modules at, upwards; None for the working directory.
        seconds: Time limit of npm.

    Raises:
        ResourceError: If the folder lacks a file, or npm is absent or fails.
    """
    if folder:
        return read_package(Path(folder).expanduser())
    directory = (start or Path.cwd()).resolve()
    for parent in (directory, *directory.parents):
        if (parent / "node_modules" / PACKAGE / "dist").is_dir():
            return read_package(parent / "node_modules" / PACKAGE)
    return fetch(seconds)


def read_package(folder: Path) -> OrtWeb:
    """Read the files from an unpacked package, or from its `dist`.

    Raises:
        ResourceError: If one is missing.
    """
    place = folder / "dist" if (folder / "dist").is_dir() else folder
    absent = [name for name in FILES if not (place / name).is_file()]
    if absent:
        raise ResourceError(f"{folder} is no {PACKAGE}: {absent[0]} is missing", HINT)
    files = {name: (place / name).read_bytes() for name in FILES}
    return OrtWeb(version=_version((place / "package.json", place.parent / "package.json")), files=files)


def fetch(seconds: float) -> OrtWeb:
    """Fetch the package with npm into a temporary folder, without running its scripts.

    Raises:
        ResourceError: If npm is absent or fails.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise ResourceError(f"a bundle needs {PACKAGE}, but neither node_modules nor npm was found", HINT)
    with scratch_folder() as folder:
        command = [
            npm,
            "pack",
            f"{PACKAGE}@{VERSION}",
            "--silent",
            # A package's scripts are foreign code, and none is run.
            "--ignore-scripts",
            "--pack-destination",
            str(folder),
        ]
        try:
            # In the scratch folder: an .npmrc of the working directory is not read.
            process = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired:
            raise ResourceError(f"npm did not fetch {PACKAGE} within {seconds:.0f} s", HINT) from None
        packed = next(folder.glob("*.tgz"), None)
        if process.returncode or packed is None:
            cause = ([line for line in process.stderr.splitlines() if "error" in line.lower()] or ["no message"])[0]
            raise ResourceError(f"npm cannot fetch {PACKAGE} {VERSION}: {cause[:200]}", HINT)
        with tarfile.open(packed) as archive:
            # No links, devices or paths outside (PEP 706).
            archive.extractall(folder, filter="data")
        return read_package(folder / "package")


def _version(places: Iterable[Path]) -> str:
    for file in places:
        try:
            package = json.loads(file.read_text())
        except (OSError, ValueError):
            continue
        if isinstance(package, dict) and package.get("name") == PACKAGE:
            return str(package.get("version", "unknown"))
    return "unknown"
