"""A PostgreSQL server of one's own on loopback, where PostgreSQL is installed."""

import os
import pwd
import shutil
import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp


def programs():
    """The folder of `initdb` and `postgres`; None where there is none."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "postgres").exists()), None)


def missing():
    """Why no server can be started here; empty if one can."""
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return "psycopg is not installed"
    if programs() is None:
        return "PostgreSQL is not installed"
    return "" if os.getuid() or _other() else "PostgreSQL does not run as root, and there is no other user"


def _other():
    names = {one.pw_name: one for one in pwd.getpwall()}
    return next((names[name] for name in ("postgres", "nobody") if name in names), None)


@contextmanager
def server(password="hunter2"):
    """Start a server; give the address of its database, without the password."""
    folder = Path(mkdtemp(prefix="effxfer-pg-"))
    user = None if os.getuid() else _other()
    if user:
        os.chown(folder, user.pw_uid, user.pw_gid)
    who = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
    secret = folder / "password"
    secret.write_text(password)
    secret.chmod(0o644)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = folder / "data"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder, **who}
    subprocess.run(
        [programs() / "initdb", "-D", data, "-U", "me", "-A", "scram-sha-256", f"--pwfile={secret}", "-N"],
        check=True,
        **quiet,
    )
    control = [programs() / "pg_ctl", "-D", data, "-w"]
    options = f"-h 127.0.0.1 -p {port} -k {folder} -F"
    subprocess.run([*control, "-l", folder / "log", "-o", options, "start"], check=True, **quiet)
    try:
        yield f"postgresql://me@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=False, **quiet)
        shutil.rmtree(folder, ignore_errors=True)
