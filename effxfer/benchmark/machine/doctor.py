"""Check whether this environment can run effxfer, and name the command that repairs it if not."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from math import ceil
from pathlib import Path
from typing import Any, Literal

from effxfer.benchmark.machine import facts
from effxfer.process import children
from effxfer.report import Measurement, Report, Table

Status = Literal["ok", "warn", "fail"]
MIN_FREE_GB = 5.0  # chosen: checkpoints, caches and exports of one pipeline
PROBE_SECONDS = 180.0  # chosen: importing torch takes 2 s, and minutes on a network disk that is cold
REINSTALL = "pip install --upgrade --force-reinstall torch torchvision"
PURPOSE = (
    {"table": "Parquet tables", "heic": "HEIC photographs"}
    | dict.fromkeys(("executorch", "litert"), "Another runtime in `bench`")
    | {"openvino": "Files for OpenVINO"}
)
DEVELOPERS = "dev"
LISTED = ("torch", "timm", "onnx", "onnxruntime", "optuna")


@dataclass(frozen=True, kw_only=True)
class Check:
    """Result of one check.

    Attributes:
        name: Short name.
        status: `ok`; `warn`: works, but something is missing or unusual; `fail`: a main command will not work.
        text: Result in words.
        fix: The command or setting that repairs it; empty if none is needed.
    """

    name: str
    status: Status
    text: str
    fix: str = ""


def diagnose(folder: Path | None = None) -> tuple[Report, list[Check]]:
    """Check versions, torch and its devices, the CPU, extras, disk, network settings and threads.

    Takes some seconds, because a separate process imports torch.

    Args:
        folder: Folder of the runs, whose free disk space is checked; None for the working directory.

    Returns:
        A report with one table, and its checks; the environment is usable if none has status `fail`.
    """
    machine, needs = facts.facts(), requirements()
    checks = [
        *version_checks(needs),
        *torch_checks(probe_torch()),
        cpu_check(machine),
        thread_check(machine, os.environ),
        *extra_checks(needs),
        disk_check("disk for runs", folder or Path.cwd()),
        disk_check("disk for downloads", hub_cache(os.environ)),
        *network_checks(os.environ),
    ]
    rows = tuple({"status": c.status, "check": c.name, "found": c.text, "fix": c.fix} for c in checks)
    failed = Measurement(name="failed", value=sum(c.status == "fail" for c in checks), of=f"{len(checks)} checks")
    notes = (f"{machine['cpu']}, {machine['usable']} usable threads, {machine['memory_gb']} GB, {machine['os']}",)
    return Report(rows=(failed,), tables=(Table(title="Environment", rows=rows),), notes=notes), checks


def requirements() -> list[str] | None:
    """Return the requirements of effxfer with its extras, or None if it is not installed as a package."""
    try:
        return metadata.requires("effxfer") or []
    except metadata.PackageNotFoundError:
        return None


def version_checks(needs: Sequence[str] | None) -> list[Check]:
    """Compare the installed packages with effxfer's requirements.

    Args:
        needs: Requirement lines such as `torch>=2.10`; those of extras are ignored.
    """
    from packaging.requirements import Requirement

    python = Check(name="python", status="ok", text=sys.version.split()[0])
    if needs is None:
        text = "effxfer runs from a folder and is not installed, so its requirements are unknown"
        return [python, Check(name="effxfer", status="warn", text=text, fix="pip install -e .")]
    checks = []
    for line in needs:
        need = Requirement(line)
        if need.marker is None or need.marker.evaluate({"extra": ""}):
            checks.append(_version_check(need.name, str(need.specifier)))
    good = [check for check in checks if check.status == "ok"]
    shown = ", ".join(check.text for check in good if check.name in LISTED)
    every = Check(name="packages", status="ok", text=f"{len(good)} of {len(checks)} as needed: {shown}")
    return [python, every, *(check for check in checks if check.status != "ok")]


def _version_check(package: str, floor: str) -> Check:
    from packaging.specifiers import SpecifierSet

    current = facts.version(package)
    fix = f"pip install '{package}{floor}'"
    if current is None:
        return Check(name=package, status="fail", text=f"missing, {floor} needed", fix=fix)
    if not SpecifierSet(floor).contains(current, prereleases=True):
        return Check(name=package, status="fail", text=f"{current} is installed, {floor} needed", fix=fix)
    return Check(name=package, status="ok", text=f"{package} {current}")


def probe_torch(seconds: float = PROBE_SECONDS) -> dict[str, Any]:
    """Import torch and torchvision in a fresh process.

    Args:
        seconds: Time limit, after which the process is stopped.

    Returns:
        `torch`, `torchvision` (versions), `threads`, `built_for` (CUDA version or None), `cuda` (names of devices),
        `mps`; and `error`, one line, if the import failed.
    """
    child = Path(__file__).with_name("doctor_child.py")
    try:
        process = children.run(child, seconds=seconds)
    except subprocess.TimeoutExpired:
        return {"error": f"importing torch took longer than {seconds:.0f} s"}
    try:
        # The last line: libraries print on import.
        facts_of_torch: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return {"error": f"importing torch ended the process (exit status {process.returncode})"}
    return facts_of_torch


def torch_checks(probe: Mapping[str, Any]) -> list[Check]:
    """Return the checks for a result of `probe_torch`."""
    if "torch" not in probe:
        return [
            Check(name="torch", status="fail", text=str(probe.get("error", "?")), fix="pip install torch torchvision")
        ]
    return [_torchvision_check(probe), _device_check(probe)]


def _torchvision_check(probe: Mapping[str, Any]) -> Check:
    both = f"torch {probe['torch']}, torchvision {probe.get('torchvision') or facts.version('torchvision')}"
    if "error" not in probe:
        return Check(name="torch and torchvision", status="ok", text=f"{both} are compatible")
    if facts.version("torchvision") is None:
        text, fix = "torchvision is missing", "pip install torchvision"
    else:
        text, fix = f"{both} are not compatible: {probe['error']}", REINSTALL
    return Check(name="torch and torchvision", status="fail", text=text, fix=fix)


def _device_check(probe: Mapping[str, Any]) -> Check:
    if probe.get("cuda"):
        return Check(name="devices", status="ok", text=f"CUDA {probe['built_for']}: {', '.join(probe['cuda'])}")
    if probe.get("mps"):
        return Check(name="devices", status="ok", text="Apple GPU (mps)")
    if shutil.which("nvidia-smi") is None:
        return Check(name="devices", status="ok", text="CPU; no GPU found")
    if probe.get("built_for") is None:
        fix = "pip install --force-reinstall torch torchvision"
        return Check(
            name="devices", status="warn", text="a GPU is here, but this torch was built without CUDA", fix=fix
        )
    text = f"a GPU is here, but torch (CUDA {probe['built_for']}) cannot use it"
    return Check(
        name="devices", status="warn", text=text, fix="nvidia-smi  # does the driver support this CUDA version?"
    )


def cpu_check(machine: Mapping[str, Any]) -> Check:
    """Report what the CPU's instruction sets mean for int8."""
    flags = ", ".join(machine["flags"]) or "no vector instructions known"
    if facts.vnni(machine):
        return Check(name="cpu", status="ok", text=f"{machine['cpu']} ({flags}): int8 dot product, int8 pays off")
    text = f"{machine['cpu']} ({flags}): no int8 dot product, int8 may not be faster; `effxfer export` measures it"
    return Check(name="cpu", status="ok", text=text)


def thread_check(machine: Mapping[str, Any], environ: Mapping[str, str]) -> Check:
    """Compare the threads that will be started with the available cores."""
    cores = machine["quota"] or machine["usable"]
    requested = environ.get("OMP_NUM_THREADS", "")
    # OMP_NUM_THREADS may be a list (nested parallelism).
    started = int(requested) if requested.isdigit() else machine["used"]
    text = f"{machine['usable']} of {machine['threads']} threads usable, {machine['used']} used by default"
    text += f", a limit of {machine['quota']:g} cores" if machine["quota"] else ""
    text += f", OMP_NUM_THREADS={requested}" if requested else ""
    if started > max(1, ceil(cores)):
        text += f": {started} threads will share {cores:g} cores"
        return Check(name="threads", status="warn", text=text, fix=f"export OMP_NUM_THREADS={machine['used']}")
    return Check(name="threads", status="ok", text=text)


def extra_checks(needs: Sequence[str] | None) -> list[Check]:
    """Report which optional extras are complete, except the one for developers."""
    from packaging.requirements import Requirement

    packages_by_extra: dict[str, list[str]] = {}
    for need in map(Requirement, needs or ()):
        for name in _extras_of(need):
            packages_by_extra.setdefault(name, []).append(need.name)
    return [_extra_check(name, packages) for name, packages in sorted(packages_by_extra.items()) if name != DEVELOPERS]


def _extras_of(need: Any) -> list[str]:
    if need.marker is None or need.marker.evaluate({"extra": ""}):
        return []
    names = metadata.metadata("effxfer").get_all("Provides-Extra") or []
    return [name for name in names if need.marker.evaluate({"extra": name})]


def _extra_check(name: str, packages: list[str]) -> Check:
    missing = [package for package in packages if facts.version(package) is None]
    use = PURPOSE.get(name, name)
    if missing:
        text = f"{use}: {', '.join(missing)} not installed (optional)"
        return Check(name=f"extra {name}", status="warn", text=text, fix=f"pip install 'effxfer[{name}]'")
    versions = ", ".join(f"{package} {facts.version(package)}" for package in packages)
    return Check(name=f"extra {name}", status="ok", text=f"{use}: {versions}")


def hub_cache(environ: Mapping[str, str]) -> Path:
    """Return the folder of downloaded weights."""
    if environ.get("HF_HUB_CACHE"):
        return Path(environ["HF_HUB_CACHE"])
    home = environ.get("HF_HOME") or Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    return Path(home) / "hub"


def disk_check(name: str, folder: Path) -> Check:
    """Check that a folder, or its nearest existing parent, is writable and has free space."""
    nearest = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    free = shutil.disk_usage(nearest).free / 1e9
    text = f"{folder}: {free:.1f} GB free"
    if not os.access(nearest, os.W_OK):
        return Check(name=name, status="fail", text=f"{text}, not writable", fix="choose another folder")
    if free < MIN_FREE_GB:
        return Check(
            name=name, status="warn", text=text, fix=f"free some space: at least {MIN_FREE_GB:g} GB are recommended"
        )
    return Check(name=name, status="ok", text=text)


def network_checks(environ: Mapping[str, str]) -> list[Check]:
    """Report the environment variables for downloads and for loading weights; makes no connection."""
    offline = {
        name
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
        if environ.get(name, "").upper() in ("1", "TRUE", "ON", "YES")
    }
    text = (
        f"{' and '.join(sorted(offline))} set: only local weights"
        if offline
        else "downloads of pretrained weights are allowed"
    )
    fix = "name a local file: timm:NAME@weights.safetensors" if offline else ""
    checks = [Check(name="network", status="warn" if offline else "ok", text=text, fix=fix)]
    unsafe = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
    if environ.get(unsafe, "0") not in ("", "0"):
        text = f"{unsafe} is set: other programs that load weights may run code from them (effxfer does not)"
        checks.append(Check(name="weights", status="warn", text=text, fix=f"unset {unsafe}"))
    return checks
