"""The same file on another CPU: run by QEMU's user mode, its answers compared with those of this machine.

QEMU translates the instructions of one process (https://www.qemu.org/docs/master/user/main.html). ONNX Runtime asks the
CPU what it has, and picks its kernels by the answer, so the emulated process runs the kernels of that CPU. QEMU 7.2
knows no AVX-512 and no VNNI. An ARM process needs a folder with the ARM builds of Python, numpy and ONNX Runtime;
`benchmarks/arm64_root.sh` makes one.
"""

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from effxfer.benchmark.untrusted.vet import is_foreign, locate, unvouched, vet
from effxfer.data.load import load
from effxfer.data.settings import DataSettings
from effxfer.deploy.cpu.saturation import saturation
from effxfer.deploy.cpu.targets import coverage, this
from effxfer.deploy.export.parity import onnx_logits, open_model
from effxfer.deploy.int8.static import Feeds
from effxfer.errors import ModelFileError, ResourceError, SettingsError, did_you_mean
from effxfer.process import children
from effxfer.process.scratch import scratch_folder
from effxfer.report import Report, Table

CHILD = Path(__file__).with_name("emulator_child.py")
FILES = ("model.int8.onnx", "model.onnx")


@dataclass(frozen=True, kw_only=True)
class Emulated:
    """A CPU that QEMU plays.

    Attributes:
        target: What it stands for.
        program: Of QEMU.
        model: QEMU's name of the CPU.
        what: Its instruction sets.
    """

    target: str
    program: str
    model: str
    what: str


CPUS: dict[str, Emulated] = {
    "arm64": Emulated(target="arm64", program="qemu-aarch64", model="cortex-a72", what="NEON"),
    "arm64-dot": Emulated(target="arm64", program="qemu-aarch64", model="neoverse-n1", what="NEON with dot products"),
    "avx2": Emulated(target="x86-avx2", program="qemu-x86_64", model="Haswell", what="AVX2, no VNNI"),
    "sse": Emulated(target="x86 without AVX2", program="qemu-x86_64", model="Nehalem", what="SSE4.2, no AVX"),
}  # fmt: skip


def examine(
    model: Path, data: DataSettings, *, images: int = 32, names: Sequence[str] = (), root: Path | None = None
) -> Report:
    """Say on which CPUs an exported model answers the same.

    Args:
        model: A file, or the directory that holds `model.int8.onnx` or `model.onnx`.
        data: Whose validation split is used.
        images: Of it.
        names: Keys of `CPUS` to run the file on.
        root: As in `emulated_logits`.

    Returns:
        What x86 without VNNI would saturate, where the file was checked and where it should hold, and the answers of
        the emulated CPUs beside those of this one.

    Raises:
        ModelFileError, DataError, SettingsError, ResourceError: As `emulated_logits` and `load`.
    """
    for name in names:
        command(name, root)
    file = locate(model, FILES)
    if is_foreign(file):
        vet(file)
    opened = open_model(file, 1)
    if opened.with_preprocessing:
        raise ModelFileError(f"{file} resizes images by itself", "name one that was exported without", code="E428")
    pixels = np.asarray(load(data, opened.preprocess).val.pixels)
    feeds = Feeds(name=opened.input_name, pixels=pixels, preprocess=opened.preprocess).some(images)
    found = saturation(file, feeds)
    where = Report(tables=(coverage(found, this(), len(feeds.pixels)),))
    return found.report(file.stem) + where + compare(file, feeds, names, root=root) + Report(notes=unvouched([file]))


def emulated_logits(
    file: Path, feeds: Feeds, name: str, *, root: Path | None = None, seconds: float = 600.0
) -> NDArray[np.float32]:
    """Run a file on an emulated CPU.

    Args:
        file: An ONNX model.
        feeds: Images; about a hundred times slower than without QEMU.
        name: Key of `CPUS`.
        root: For ARM: a folder with `usr/bin/python3`, its libraries, and numpy and onnxruntime in `site`.
        seconds: After this long the process is stopped.

    Returns:
        float32 `(N, classes)`.

    Raises:
        SettingsError: If there is no such CPU, or it needs `root`.
        ResourceError: If QEMU is not installed, or the process took too long or was killed.
        ModelFileError: If the model does not run there.
    """
    words, variables = command(name, root)
    with scratch_folder() as folder:
        images, logits = folder / "images.npy", folder / "logits.npy"
        np.save(images, next(iter(feeds.feed(0, len(feeds.pixels)).values())))
        ask = {"file": str(file.resolve()), "images": str(images), "logits": str(logits), "batch": 4}
        try:
            done = children.run(CHILD, json.dumps(ask), seconds=seconds, python=words, variables=variables)
        except subprocess.TimeoutExpired:
            raise ResourceError(
                f"{file} took over {seconds:.0f} s on an emulated {name}", "give fewer images"
            ) from None
        if done.returncode:
            said = [line for line in done.stderr.strip().splitlines() if "warning: TCG" not in line]
            raise ModelFileError(
                f"{file} does not run on an emulated {name}: {(said or ['no message'])[-1][:300]}", code="E427"
            )
        result: NDArray[np.float32] = np.load(logits)
    return result


def command(name: str, root: Path | None) -> tuple[list[str], dict[str, str]]:
    """Give the words that start Python on an emulated CPU, and the environment variables it needs.

    Raises:
        SettingsError: If there is no such CPU, or it needs `root`.
        ResourceError: If QEMU is not installed.
    """
    if name not in CPUS:
        raise SettingsError(f"no emulated CPU {name!r}{did_you_mean(name, CPUS)}", f"there are {', '.join(CPUS)}")
    cpu = CPUS[name]
    if not shutil.which(cpu.program):
        raise ResourceError(f"no program {cpu.program} to emulate {name}", "apt-get install qemu-user")
    start = [cpu.program, "-cpu", cpu.model]
    variables = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    if cpu.program == "qemu-x86_64":
        python, path = children.interpreter()
        return [*start, python], {**variables, **path}
    if root is None or not (root / "usr/bin/python3").exists():
        raise SettingsError(
            f"{name} needs a folder with an ARM Python, not {root}", "bash benchmarks/arm64_root.sh FOLDER makes one"
        )
    place = root.resolve()
    inside = {"PYTHONHOME": str(place / "usr"), "PYTHONPATH": str(place / "site"), **variables}
    given = [word for key, value in inside.items() for word in ("-E", f"{key}={value}")]
    return [*start, "-L", str(place), *given, str(place / "usr/bin/python3")], variables


def compare(file: Path, feeds: Feeds, names: Sequence[str], *, root: Path | None = None) -> Report:
    """Compare the answers of emulated CPUs with those of this one, and both with exact sums.

    Args:
        file: What effxfer exported.
        feeds: Images.
        names: Keys of `CPUS`.
        root: As in `emulated_logits`.

    Returns:
        A table of each CPU's top-1 agreement with this machine and the largest difference of a logit, the same
        beside sums without loss.
    """
    own, exact = (onnx_logits(file, feeds.pixels, threads=1, exact=exact) for exact in (False, True))
    rows = [_row("this CPU", "", own, own, exact)]
    for name in names:
        got = emulated_logits(file, feeds, name, root=root)
        rows.append(_row(name, CPUS[name].what, got, own, exact))
    return Report(tables=(Table(title=f"Answers on {len(own)} images", rows=tuple(rows)),))


def _row(
    name: str, what: str, got: NDArray[np.float32], own: NDArray[np.float32], exact: NDArray[np.float32]
) -> dict[str, object]:
    def same(a: NDArray[np.float32], b: NDArray[np.float32]) -> str:
        return f"{int((a.argmax(1) == b.argmax(1)).sum())} of {len(a)}"

    return {
        "CPU": name, "has": what, "top-1 as here": same(got, own), "logit difference": float(np.abs(got - own).max()),
        "top-1 as exact": same(got, exact), "difference from exact": float(np.abs(got - exact).max()),
    }  # fmt: skip
