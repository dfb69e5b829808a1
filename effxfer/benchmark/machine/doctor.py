"""Is this environment fit to run effxfer, and if not, which command mends it."""

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
MIN_FREE_GB = 5.0
PATIENCE = 180.0
REINSTALL = "pip install --upgrade --force-reinstall torch torchvision"
PURPOSE = {"table": "Parquet tables", "heic": "HEIC photographs"} | dict.fromkeys(
    ("executorch", "litert", "openvino"), "Another runtime in `bench`"
)
DEVELOPERS = "dev"
SHOWN = ("torch", "timm", "onnx", "onnxruntime", "optuna")


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: What, in a few words.
        status: `ok`; `warn`: works, but something is missing or odd; `fail`: a main command will not work.
        text: What was found.
        fix: The command or setting that mends it; empty if there is nothing to mend.
    """

    name: str
    status: Status
    text: str
    fix: str = ""


def diagnose(folder: Path | None = None) -> tuple[Report, list[Check]]:
    """Look at versions, torch and its devices, the CPU, extras, disk, network settings and threads.

    Takes some seconds, because torch is imported in a process of its own; it is not imported into this one.

    Args:
        folder: Where runs will be written, to look at its free disk; None for the working directory.

    Returns:
        A report with one table, and the checks in it; the environment is fit if none has status `fail`.
    """
    known, needs = facts.facts(), requirements()
    checks = [
        *version_checks(needs),
        *torch_checks(probe_torch()),
        cpu_check(known),
        thread_check(known, os.environ),
        *extra_checks(needs),
        disk_check("disk for runs", folder or Path.cwd()),
        disk_check("disk for downloads", hub_cache(os.environ)),
        *network_checks(os.environ),
    ]
    rows = tuple({"status": c.status, "check": c.name, "found": c.text, "fix": c.fix} for c in checks)
    failed = Measurement(name="failed", value=sum(c.status == "fail" for c in checks), of=f"{len(checks)} checks")
    notes = (f"{known['cpu']}, {known['usable']} usable threads, {known['memory_gb']} GB, {known['os']}",)
    return Report(rows=(failed,), tables=(Table(title="Environment", rows=rows),), notes=notes), checks


def requirements() -> list[str] | None:
    """Give what effxfer's metadata asks for, extras included, or None if it is not installed as a package."""
    try:
        return metadata.requires("effxfer") or []
    except metadata.PackageNotFoundError:
        return None


def version_checks(needs: Sequence[str] | None) -> list[Check]:
    """Compare what is installed with what effxfer needs.

    Args:
        needs: Requirement lines such as `torch>=2.10`; those of extras are passed over.
    """
    from packaging.requirements import Requirement

    python = Check(name="python", status="ok", text=sys.version.split()[0])
    if needs is None:
        text = "effxfer runs from a folder and is not installed, so its requirements are unknown"
        return [python, Check(name="effxfer", status="warn", text=text, fix="pip install -e .")]
    found = []
    for line in needs:
        need = Requirement(line)
        if need.marker is None or need.marker.evaluate({"extra": ""}):
            found.append(_version_check(need.name, str(need.specifier)))
    good = [check for check in found if check.status == "ok"]
    shown = ", ".join(check.text for check in good if check.name in SHOWN)
    every = Check(name="packages", status="ok", text=f"{len(good)} of {len(found)} as needed: {shown}")
    return [python, every, *(check for check in found if check.status != "ok")]


def _version_check(package: str, floor: str) -> Check:
    from packaging.specifiers import SpecifierSet

    have = facts.version(package)
    fix = f"pip install '{package}{floor}'"
    if have is None:
        return Check(name=package, status="fail", text=f"missing, {floor} needed", fix=fix)
    if not SpecifierSet(floor).contains(have, prereleases=True):
        return Check(name=package, status="fail", text=f"{have} is installed, {floor} needed", fix=fix)
    return Check(name=package, status="ok", text=f"{package} {have}")


def probe_torch(seconds: float = PATIENCE) -> dict[str, Any]:
    """Import torch and torchvision in a fresh process.

    Args:
        seconds: After this long the process is stopped.

    Returns:
        `torch`, `torchvision` (versions), `threads`, `built_for` (CUDA version or None), `cuda` (names of devices),
        `mps`; and `error`, one line, if something went wrong before all were known.
    """
    child = Path(__file__).with_name("doctor_child.py")
    try:
        done = children.run(child, seconds=seconds)
    except subprocess.TimeoutExpired:
        return {"error": f"importing torch took longer than {seconds:.0f} s"}
    try:
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return {"error": f"importing torch ended the process (exit status {done.returncode})"}
    return found


def torch_checks(found: Mapping[str, Any]) -> list[Check]:
    """Judge what `probe_torch` found."""
    if "torch" not in found:
        return [
            Check(name="torch", status="fail", text=str(found.get("error", "?")), fix="pip install torch torchvision")
        ]
    return [_torchvision(found), _devices(found)]


def _torchvision(found: Mapping[str, Any]) -> Check:
    both = f"torch {found['torch']}, torchvision {found.get('torchvision') or facts.version('torchvision')}"
    if "error" not in found:
        return Check(name="torch and torchvision", status="ok", text=f"{both} fit together")
    if facts.version("torchvision") is None:
        text, fix = "torchvision is missing", "pip install torchvision"
    else:
        text, fix = f"{both} do not fit together: {found['error']}", REINSTALL
    return Check(name="torch and torchvision", status="fail", text=text, fix=fix)


def _devices(found: Mapping[str, Any]) -> Check:
    if found.get("cuda"):
        return Check(name="devices", status="ok", text=f"CUDA {found['built_for']}: {', '.join(found['cuda'])}")
    if found.get("mps"):
        return Check(name="devices", status="ok", text="Apple GPU (mps)")
    if shutil.which("nvidia-smi") is None:
        return Check(name="devices", status="ok", text="CPU; no GPU seen")
    if found.get("built_for") is None:
        fix = "pip install --force-reinstall torch torchvision"
        return Check(
            name="devices", status="warn", text="a GPU is here, but this torch was built without CUDA", fix=fix
        )
    text = f"a GPU is here, but torch (CUDA {found['built_for']}) cannot use it"
    return Check(name="devices", status="warn", text=text, fix="nvidia-smi  # does the driver fit this CUDA version?")


def cpu_check(known: Mapping[str, Any]) -> Check:
    """Tell what the CPU's instruction sets mean for int8."""
    flags = ", ".join(known["flags"]) or "no vector instructions known"
    if facts.vnni(known):
        return Check(name="cpu", status="ok", text=f"{known['cpu']} ({flags}): int8 dot product, int8 pays off")
    text = f"{known['cpu']} ({flags}): no int8 dot product, int8 may not be faster; `effxfer export` measures it"
    return Check(name="cpu", status="ok", text=text)


def thread_check(known: Mapping[str, Any], environ: Mapping[str, str]) -> Check:
    """Compare the threads that will be started with the cores that there are."""
    cores = known["quota"] or known["usable"]
    asked = environ.get("OMP_NUM_THREADS", "")
    started = int(asked) if asked.isdigit() else known["used"]
    text = f"{known['usable']} of {known['threads']} threads usable, {known['used']} used where none are asked for"
    text += f", a limit of {known['quota']:g} cores" if known["quota"] else ""
    text += f", OMP_NUM_THREADS={asked}" if asked else ""
    if started > max(1, ceil(cores)):
        text += f": {started} threads will share {cores:g} cores"
        return Check(name="threads", status="warn", text=text, fix=f"export OMP_NUM_THREADS={known['used']}")
    return Check(name="threads", status="ok", text=text)


def extra_checks(needs: Sequence[str] | None) -> list[Check]:
    """Tell which optional extras are complete; those for developers are passed over."""
    from packaging.requirements import Requirement

    wanted: dict[str, list[str]] = {}
    for need in map(Requirement, needs or ()):
        for name in _extras_of(need):
            wanted.setdefault(name, []).append(need.name)
    return [_extra_check(name, packages) for name, packages in sorted(wanted.items()) if name != DEVELOPERS]


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
    have = ", ".join(f"{package} {facts.version(package)}" for package in packages)
    return Check(name=f"extra {name}", status="ok", text=f"{use}: {have}")


def hub_cache(environ: Mapping[str, str]) -> Path:
    """Give the folder that downloaded weights are kept in."""
    if environ.get("HF_HUB_CACHE"):
        return Path(environ["HF_HUB_CACHE"])
    home = environ.get("HF_HOME") or Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    return Path(home) / "hub"


def disk_check(name: str, folder: Path) -> Check:
    """Tell whether a folder, or the nearest that exists above it, can be written and has room."""
    nearest = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    free = shutil.disk_usage(nearest).free / 1e9
    text = f"{folder}: {free:.1f} GB free"
    if not os.access(nearest, os.W_OK):
        return Check(name=name, status="fail", text=f"{text}, not writable", fix="give another folder")
    if free < MIN_FREE_GB:
        return Check(name=name, status="warn", text=text, fix=f"make room: {MIN_FREE_GB:g} GB are comfortable")
    return Check(name=name, status="ok", text=text)


def network_checks(environ: Mapping[str, str]) -> list[Check]:
    """Tell what the environment says about downloads and about loading weights; nothing is contacted."""
    on = {
        name
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
        if environ.get(name, "").upper() in ("1", "TRUE", "ON", "YES")
    }
    text = (
        f"{' and '.join(sorted(on))} set: only local weights" if on else "downloads of pretrained weights are allowed"
    )
    fix = "name a local file: timm:NAME@weights.safetensors" if on else ""
    checks = [Check(name="network", status="warn" if on else "ok", text=text, fix=fix)]
    unsafe = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
    if environ.get(unsafe, "0") not in ("", "0"):
        text = f"{unsafe} is set: other programs that load weights may run code from them (effxfer does not)"
        checks.append(Check(name="weights", status="warn", text=text, fix=f"unset {unsafe}"))
    return checks
