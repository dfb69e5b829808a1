"""Get the files of a JavaScript library for the page, from a folder, from node_modules, or from npm."""

import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from effxfer.errors import ResourceError
from effxfer.process.scratch import scratch_folder

LICENSE = "LICENSE"


@dataclass(frozen=True, kw_only=True)
class WebLibrary:
    """A package of npm that the page needs.

    Attributes:
        package: Its name.
        version: Pinned, because a bundle must be the same tomorrow: the version that the page was written for.
        files: The files of `dist` that the page loads.
        folder: Their folder in the bundle.
        title: Its name for people.
        setting: The setting that names a folder of the package.
    """

    package: str
    version: str
    files: tuple[str, ...]
    folder: str
    title: str
    setting: str

    @property
    def hint(self) -> str:
        """What makes it available."""
        return f"npm install {self.package}, or give the folder that holds {self.files[0]} as `{self.setting}`"


# The least that WebAssembly needs, without WebGPU: about 14 MB.
ORT_WEB = WebLibrary(
    package="onnxruntime-web", version="1.30.0", folder="ort", title="ONNX Runtime Web", setting="ort_web",
    files=("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"),
)  # fmt: skip
TOKENIZERS_WEB = WebLibrary(
    package="@huggingface/tokenizers", version="0.2.0", folder="tokenizers", title="Tokenizers.js",
    setting="tokenizers_web", files=("tokenizers.min.mjs",),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class WebFiles:
    """The files of a library.

    Attributes:
        library: The library.
        version: Version of the npm package; `unknown` without a `package.json`.
        files: Contents by name, with its `LICENSE` where the package has one.
    """

    library: WebLibrary
    version: str
    files: dict[str, bytes]


def find_library(
    library: WebLibrary, folder: str = "", *, start: Path | None = None, seconds: float = 300.0
) -> WebFiles:
    """Read the files from `folder`, else from the nearest node_modules, else fetch them with npm.

    Args:
        library: The library.
        folder: The package (`.../node_modules/onnxruntime-web`) or its `dist`; empty searches for it.
        start: Folder to start the search for node_modules at, upwards; None for the working directory.
        seconds: Time limit of npm.

    Raises:
        ResourceError: If the folder lacks a file, or npm is absent or fails.
    """
    if folder:
        return read_package(library, Path(folder).expanduser())
    directory = (start or Path.cwd()).resolve()
    for parent in (directory, *directory.parents):
        if (parent / "node_modules" / library.package / "dist").is_dir():
            return read_package(library, parent / "node_modules" / library.package)
    return fetch(library, seconds)


def read_package(library: WebLibrary, folder: Path) -> WebFiles:
    """Read the files from an unpacked package, or from its `dist`.

    Raises:
        ResourceError: If one is missing.
    """
    place = folder / "dist" if (folder / "dist").is_dir() else folder
    absent = [name for name in library.files if not (place / name).is_file()]
    if absent:
        raise ResourceError(f"{folder} is no {library.package}: {absent[0]} is missing", library.hint)
    files = {name: (place / name).read_bytes() for name in library.files}
    for root in (place, place.parent):
        version = _version(library, root)
        if version is not None:
            licence = {LICENSE: (root / LICENSE).read_bytes()} if (root / LICENSE).is_file() else {}
            return WebFiles(library=library, version=version, files=files | licence)
    return WebFiles(library=library, version="unknown", files=files)


def fetch(library: WebLibrary, seconds: float) -> WebFiles:
    """Fetch the package with npm into a temporary folder, without running its scripts.

    Raises:
        ResourceError: If npm is absent or fails.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise ResourceError(
            f"a bundle needs {library.package}, but neither node_modules nor npm was found", library.hint
        )
    with scratch_folder() as folder:
        command = [
            npm,
            "pack",
            f"{library.package}@{library.version}",
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
            raise ResourceError(f"npm did not fetch {library.package} within {seconds:.0f} s", library.hint) from None
        packed = next(folder.glob("*.tgz"), None)
        if process.returncode or packed is None:
            cause = first_line(line for line in process.stderr.splitlines() if "error" in line.lower())
            raise ResourceError(f"npm cannot fetch {library.package} {library.version}: {cause}", library.hint)
        with tarfile.open(packed) as archive:
            # No links, devices or paths outside (PEP 706).
            archive.extractall(folder, filter="data")
        return read_package(library, folder / "package")


def first_line(lines: Iterable[str]) -> str:
    """Return the first of some lines of a program's messages, cut to a length that fits into an error."""
    return next(iter(lines), "no message")[:200]


def _version(library: WebLibrary, folder: Path) -> str | None:
    """Return the version in the package's own `package.json`; None without one."""
    try:
        package = json.loads((folder / "package.json").read_text())
    except (OSError, ValueError):
        return None
    is_own = isinstance(package, dict) and package.get("name") == library.package
    return str(package.get("version", "unknown")) if is_own else None
