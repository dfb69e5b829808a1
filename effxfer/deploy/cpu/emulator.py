"""Run a file on another CPU by QEMU's user mode, and compare its outputs with those of this machine.

QEMU translates the instructions of one process (https://www.qemu.org/docs/master/user/main.html). ONNX Runtime picks
its kernels by the instruction sets of the CPU, so the emulated process runs the kernels of that CPU. QEMU 7.2
emulates neither AVX-512 nor VNNI. An ARM process needs a folder with the ARM builds of Python, numpy and ONNX Runtime;
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

from effxfer.benchmark.untrusted.vet import has_valid_seal, is_untrusted, locate, note_unverified, vet
from effxfer.data.load import load
from effxfer.data.settings import DataSettings
from effxfer.deploy.cpu.saturation import saturation
from effxfer.deploy.cpu.targets import coverage, host_target
from effxfer.deploy.export.logits import onnx_logits, onnx_outputs, open_model
from effxfer.deploy.int8.static import Feeds
from effxfer.errors import ModelFileError, ResourceError, SettingsError, did_you_mean
from effxfer.process import children
from effxfer.process.scratch import scratch_folder
from effxfer.report import Report, Table
from effxfer.runtime.outputs.single_label import SINGLE_LABEL

CHILD = Path(__file__).with_name("emulator_child.py")
FILES = ("model.int8.onnx", "model.onnx")
BATCH = 4  # chosen: a longer call shows no progress, a shorter one costs its start


@dataclass(frozen=True, kw_only=True)
class EmulatedCpu:
    """A CPU that QEMU emulates.

    Attributes:
        target: The class of CPUs that it represents.
        program: The QEMU executable.
        model: QEMU's name of the CPU.
        instructions: Its instruction sets, for the report.
    """

    target: str
    program: str
    model: str
    instructions: str


# The oldest CPU of each kind of kernels: Nehalem before AVX, Haswell with AVX2, Cortex-A72 before dot products.
CPUS: dict[str, EmulatedCpu] = {
    "arm64": EmulatedCpu(target="arm64", program="qemu-aarch64", model="cortex-a72", instructions="NEON"),
    "arm64-dot": EmulatedCpu(
        target="arm64", program="qemu-aarch64", model="neoverse-n1", instructions="NEON with dot products"
    ),
    "avx2": EmulatedCpu(target="x86-avx2", program="qemu-x86_64", model="Haswell", instructions="AVX2, no VNNI"),
    "sse": EmulatedCpu(
        target="x86 without AVX2", program="qemu-x86_64", model="Nehalem", instructions="SSE4.2, no AVX"
    ),
}


def check_on_cpus(
    model: Path, data: DataSettings, *, images: int = 32, names: Sequence[str] = (), root: Path | None = None
) -> Report:
    """Report on which CPUs an exported model computes the same outputs.

    Args:
        model: A file, or the directory that holds `model.int8.onnx` or `model.onnx`.
        data: Data with the validation split to use.
        images: Number of validation images.
        names: Keys of `CPUS` to run the file on.
        root: Folder of the ARM builds; see `emulated_logits`.

    Returns:
        The sums that saturate on x86 without VNNI, the CPUs on which the file was checked or is expected to work, and
        the outputs of the emulated CPUs compared with those of this one.

    Raises:
        ModelFileError, DataError, SettingsError, ResourceError: Those of `emulated_logits` and `load`.
    """
    for name in names:
        emulator_command(name, root)
    file = locate(model, FILES)
    has_valid_seal(file)
    if is_untrusted(file):
        vet(file)
    opened = open_model(file, 1)
    if opened.with_preprocessing:
        raise ModelFileError(
            f"{file} resizes images itself", "name a model exported without preprocessing", code="E428"
        )
    rows = load(data, opened.metadata.input).val.rows
    feeds = Feeds(name=opened.input_name, rows=rows, input=opened.metadata.input).subset(images)
    saturated = saturation(file, feeds)
    coverage_report = Report(tables=(coverage(saturated, host_target(), len(feeds.rows)),))
    return (
        saturated.report(file.stem)
        + coverage_report
        + compare(file, feeds, names, root=root)
        + Report(notes=note_unverified([file]))
    )


def emulated_logits(
    file: Path, feeds: Feeds, name: str, *, root: Path | None = None, seconds: float = 600.0
) -> NDArray[np.float32]:
    """Run a file on an emulated CPU.

    Args:
        file: An ONNX model.
        feeds: Images; QEMU is about a hundred times slower than the CPU itself.
        name: Key of `CPUS`.
        root: For ARM: a folder with `usr/bin/python3`, its libraries, and numpy and onnxruntime in `site`.
        seconds: Time limit, after which the process is stopped.

    Returns:
        float32 `(N, classes)`.

    Raises:
        SettingsError: If `name` is no key of `CPUS`, or needs `root`.
        ResourceError: If QEMU is not installed, or the process took too long or was killed.
        ModelFileError: If the model does not run there.
    """
    start, variables = emulator_command(name, root)
    with scratch_folder() as folder:
        images, logits = folder / "images.npy", folder / "logits.npy"
        np.save(images, next(iter(feeds.feed(0, len(feeds.rows)).values())))
        request = {"file": str(file.resolve()), "images": str(images), "logits": str(logits), "batch": BATCH}
        try:
            process = children.run(CHILD, json.dumps(request), seconds=seconds, python=start, variables=variables)
        except subprocess.TimeoutExpired:
            raise ResourceError(f"{file} took over {seconds:.0f} s on an emulated {name}", "use fewer images") from None
        if process.returncode:
            # QEMU warns about features of the CPU that it does not emulate; that is no error.
            messages = [line for line in process.stderr.strip().splitlines() if "warning: TCG" not in line]
            raise ModelFileError(
                f"{file} does not run on an emulated {name}: {(messages or ['no message'])[-1][:300]}", code="E427"
            )
        result: NDArray[np.float32] = np.load(logits)
    return result


def emulator_command(name: str, root: Path | None) -> tuple[list[str], dict[str, str]]:
    """Return the command line that starts Python on an emulated CPU, and its environment variables.

    Raises:
        SettingsError: If `name` is no key of `CPUS`, or needs `root`.
        ResourceError: If QEMU is not installed.
    """
    if name not in CPUS:
        raise SettingsError(f"no emulated CPU {name!r}{did_you_mean(name, CPUS)}", f"known CPUs: {', '.join(CPUS)}")
    cpu = CPUS[name]
    if not shutil.which(cpu.program):
        raise ResourceError(f"no program {cpu.program} to emulate {name}", "apt-get install qemu-user")
    start = [cpu.program, "-cpu", cpu.model]
    # One thread, as wherever outputs are compared: another order of sums has other last bits.
    variables = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    if cpu.program == "qemu-x86_64":
        python, path = children.interpreter()
        return [*start, python], {**variables, **path}
    if root is None or not (root / "usr/bin/python3").exists():
        raise SettingsError(
            f"{name} needs a folder with an ARM Python, not {root}", "make one by: bash benchmarks/arm64_root.sh FOLDER"
        )
    prefix = root.resolve()
    variables_inside = {"PYTHONHOME": str(prefix / "usr"), "PYTHONPATH": str(prefix / "site"), **variables}
    environment = [word for key, value in variables_inside.items() for word in ("-E", f"{key}={value}")]
    return [*start, "-L", str(prefix), *environment, str(prefix / "usr/bin/python3")], variables


def compare(file: Path, feeds: Feeds, names: Sequence[str], *, root: Path | None = None) -> Report:
    """Compare the outputs of emulated CPUs with those of this one, and both with exact sums.

    Args:
        file: A file that effxfer exported.
        feeds: Images.
        names: Keys of `CPUS`.
        root: Folder of the ARM builds; see `emulated_logits`.

    Returns:
        A table: per CPU its top-1 agreement and largest difference of a logit, both with this machine and with
        exact sums.
    """
    native, exact = (_logits(file, feeds, exact=exact) for exact in (False, True))
    rows = [_row("this CPU", "", native, native, exact)]
    for name in names:
        emulated = emulated_logits(file, feeds, name, root=root)
        rows.append(_row(name, CPUS[name].instructions, emulated, native, exact))
    return Report(tables=(Table(title=f"Outputs on {len(native)} {feeds.unit}", rows=tuple(rows)),))


def _logits(file: Path, feeds: Feeds, *, exact: bool) -> NDArray[np.float32]:
    """Run a file here; on texts in the batches of the emulated CPU, which ranges of dynamic int8 depend on."""
    if feeds.unit == "images":
        return onnx_logits(file, feeds.rows, threads=1, exact=exact)
    ids = feeds.feed(0, len(feeds.rows))[feeds.name]
    return onnx_outputs(file, ids, batch=BATCH, threads=1, exact=exact)


def _row(
    name: str, instructions: str, logits: NDArray[np.float32], native: NDArray[np.float32], exact: NDArray[np.float32]
) -> dict[str, object]:
    def agreement(a: NDArray[np.float32], b: NDArray[np.float32]) -> str:
        return f"{int((SINGLE_LABEL.decide(a) == SINGLE_LABEL.decide(b)).sum())} of {len(a)}"

    return {
        "CPU": name, "has": instructions, "top-1 as here": agreement(logits, native),
        "logit difference": float(np.abs(logits - native).max()),
        "top-1 as exact": agreement(logits, exact), "difference from exact": float(np.abs(logits - exact).max()),
    }  # fmt: skip
