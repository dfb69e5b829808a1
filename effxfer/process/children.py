"""The only place that starts a Python of its own: it ends with this process, and imports nothing from its folder."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

PACKAGE = Path(__file__).resolve().parents[1]
FIRST = PACKAGE / "process" / "child.py"


def words(target: Path | str, *arguments: str, python: Sequence[str] = ()) -> list[str]:
    """Give the command that runs a script, or by its name a module of effxfer.

    Args:
        target: A script that imports nothing of effxfer, or `effxfer.part.module`.
        arguments: What it receives.
        python: Words that start another Python; empty for this one.
    """
    what = str(target) if isinstance(target, Path) else f"{target}@{PACKAGE}"
    return [*(python or [sys.executable]), "-P", str(FIRST), str(os.getpid()), what, *arguments]


def run(
    target: Path | str, *arguments: str, seconds: float, python: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """Run a child to its end; what it prints is captured, of bytes that are no text the escapes.

    Args:
        target: As of `words`.
        arguments: The same.
        seconds: After this long it is killed.
        python: As of `words`.
        variables: Of the environment, added to those of this process.

    Raises:
        subprocess.TimeoutExpired: If it was killed.
    """
    return subprocess.run(
        words(target, *arguments, python=python), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        errors="replace", timeout=seconds, check=False, env={**os.environ, **(variables or {})},
    )  # fmt: skip


def start(target: Path | str, *arguments: str, log: BinaryIO) -> subprocess.Popen[bytes]:
    """Start a child that goes on beside this process, but not beyond it; call it in the main thread.

    Args:
        target: As of `words`.
        arguments: The same.
        log: Receives what it prints.
    """
    return subprocess.Popen(words(target, *arguments), stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def interpreter() -> tuple[str, dict[str, str]]:
    """Give this Python behind all links, and the variable that it needs to find its packages, for an emulator."""
    here = Path.cwd().resolve()
    places = [entry for entry in sys.path if entry and Path(entry).resolve() != here]
    return os.path.realpath(sys.executable), {"PYTHONPATH": os.pathsep.join(places)}
