"""Facts of the machine that figures depend on, without host name, user or paths."""

import os
import platform
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from effxfer.runtime.threads import allowed_cores, cpu_quota, usable_cores

# Only those that choose kernels in ONNX Runtime or torch: the list is part of cache keys.
X86 = ("avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8", "amx_bf16")
ARM = ("asimd", "asimddp", "i8mm", "bf16", "sve")
FLAGS = (*X86, *ARM)
PACKAGES = ("torch", "torchvision", "timm", "torch-pruning", "onnx", "onnxruntime", "numpy", "pillow", "optuna")


def facts() -> dict[str, Any]:
    """Describe this machine in JSON values.

    Returns:
        `cpu` (model name), `cores` (physical, or None), `threads` (logical), `usable` (allowed to this process),
        `quota` (CPU limit of the container in cores, or None), `used` (default number of threads), `flags` (instruction
        sets that matter to inference), `memory_gb` (10^9 bytes), `governor` (or None), `load` (average over a minute
        per logical core, or None), `os`, `python`, `packages` (version by name).
    """
    info = _cpuinfo()
    return {
        "cpu": _cpu_name(info),
        "arch": platform.machine(),
        "cores": _physical(info),
        "threads": os.cpu_count() or 1,
        "usable": len(allowed_cores()),
        "quota": cpu_quota(),
        "used": usable_cores(),
        "flags": cpu_flags(info),
        "memory_gb": _memory_gb(),
        "governor": _text(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")) or None,
        "load": load_share(),
        "os": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: number for name in PACKAGES if (number := version(name))},
    }


def vnni(machine: Mapping[str, Any]) -> bool:
    """Whether the CPU of `facts()` has an instruction for int8 dot products.

    Without it, signed int8 weights with unsigned activations can saturate on AVX2, and int8 is seldom faster.
    """
    return bool({"avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8", "asimddp", "i8mm"} & set(machine["flags"]))


def version(package: str) -> str | None:
    """Return the installed version of a package without importing it, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def load_share() -> float | None:
    """Return the load average of the last minute per logical core, or None if the system has none."""
    if not hasattr(os, "getloadavg"):
        return None
    return round(os.getloadavg()[0] / (os.cpu_count() or 1), 2)


def cpu_flags(info: str) -> list[str]:
    """Return the instruction sets of `FLAGS` in a text of `/proc/cpuinfo`, in their order."""
    lines = [
        line.partition(":")[2].split() for line in info.splitlines() if line.lower().startswith(("flags", "features"))
    ]
    present = set(lines[0]) if lines else set()
    # macOS has no /proc; every Apple chip has dot products.
    if not info and sys.platform == "darwin" and platform.machine() == "arm64":
        present = {"asimd", "asimddp"}
    return [flag for flag in FLAGS if flag in present]


def _cpuinfo() -> str:
    return _text(Path("/proc/cpuinfo"))


def _cpu_name(info: str) -> str:
    for line in info.splitlines():
        if line.startswith("model name"):
            return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine()


def _physical(info: str) -> int | None:
    # Core numbers repeat on each chip, and each core has a line per hardware thread.
    pairs, chip = set(), "0"
    for line in info.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "physical id":
            chip = value.strip()
        elif key.strip() == "core id":
            pairs.add((chip, value.strip()))
    return len(pairs) or None


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, OSError, ValueError):
        return None


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace").strip()
    except OSError:
        return ""
