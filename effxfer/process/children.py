"""Start child Python processes, which end with this process and import nothing from the working directory."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

PACKAGE = Path(__file__).resolve().parents[1]
BOOTSTRAP = PACKAGE / "process" / "child.py"


def child_command(target: Path | str, *arguments: str, python: Sequence[str] = ()) -> list[str]:
    """Return the command that runs a script or a module of effxfer.

    Args:
        target: A script that does not import effxfer, or `effxfer.part.module`.
        arguments: Its arguments.
        python: Command that starts another Python; empty for this one.
    """
    destination = str(target) if isinstance(target, Path) else f"{target}@{PACKAGE}"
    # -P keeps the script's folder out of `sys.path`: no file there can take the name of a module.
    return [*(python or [sys.executable]), "-P", str(BOOTSTRAP), str(os.getpid()), destination, *arguments]


def run(
    target: Path | str, *arguments: str, seconds: float, python: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """Run a child to its end and capture its output as text; invalid bytes are replaced.

    Args:
        target: A script or a module, see `child_command`.
        arguments: Its arguments.
        seconds: Time limit, after which it is killed.
        python: Command that starts another Python; empty for this one.
        variables: Environment variables in addition to those of this process.

    Raises:
        subprocess.TimeoutExpired: If it was killed.
    """
    return subprocess.run(
        child_command(target, *arguments, python=python), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        errors="replace", timeout=seconds, check=False, env={**os.environ, **(variables or {})},
    )  # fmt: skip


def start(
    target: Path | str, *arguments: str, log: BinaryIO, variables: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a child that runs in parallel and ends with this process; call it in the main thread.

    Args:
        target: A script or a module, see `child_command`.
        arguments: Its arguments.
        log: Receives its output.
        variables: Environment variables in addition to those of this process.
    """
    # In the main thread, because the death signal follows the thread that forked, not the process (prctl(2)).
    return subprocess.Popen(
        child_command(target, *arguments), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        env={**os.environ, **(variables or {})},
    )  # fmt: skip


def converse(target: Path | str, *arguments: str) -> subprocess.Popen[str]:
    """Start a child that reads lines and writes lines, and ends with this process; call it in the main thread.

    Args:
        target: A script or a module, see `child_command`.
        arguments: Its arguments.
    """
    pipe = subprocess.PIPE
    command = child_command(target, *arguments)
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, errors="replace")


def interpreter() -> tuple[str, dict[str, str]]:
    """Return the resolved path of this Python and its `PYTHONPATH`, for an emulator."""
    directory = Path.cwd().resolve()
    # The working directory stays out: a file there called like a module would be imported.
    places = [entry for entry in sys.path if entry and Path(entry).resolve() != directory]
    return os.path.realpath(sys.executable), {"PYTHONPATH": os.pathsep.join(places)}
