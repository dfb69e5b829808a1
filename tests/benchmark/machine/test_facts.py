import getpass
import json
import socket
from pathlib import Path

import pytest

from effxfer.benchmark.machine import facts as machine

X86 = (
    "processor : 0\nmodel name\t: Some  CPU @ 2 GHz\nflags\t\t: fpu sse2 avx2 avx fma avx512_vnni hypervisor\n"
    "physical id\t: 0\ncore id\t\t: 0\n"
)
ARM = "processor\t: 0\nFeatures\t: fp asimd aes asimddp i8mm\n"


def test_facts_are_plain_and_name_neither_host_nor_user_nor_folder():
    text = json.dumps(machine.facts())
    private = {socket.gethostname(), str(Path.home()), getpass.getuser(), str(Path.cwd())} - {"root", "localhost", "/"}
    assert not [word for word in private if len(word) > 3 and word in text]


def test_facts_hold_what_figures_depend_on():
    facts = machine.facts()
    assert facts["packages"]["onnxruntime"][0].isdigit()
    assert 1 <= facts["usable"] <= facts["threads"]
    assert facts["cpu"]


@pytest.mark.parametrize(
    ("text", "flags"),
    [(X86, ["avx", "avx2", "fma", "avx512_vnni"]), (ARM, ["asimd", "asimddp", "i8mm"]), ("model name: x\n", [])],
)
def test_flags_that_matter_are_picked_in_order(text, flags):
    assert machine.cpu_flags(text) == flags


@pytest.mark.parametrize(("flags", "expected"), [(["avx2"], False), (["avx2", "avx_vnni"], True), (["asimddp"], True)])
def test_vnni(flags, expected):
    assert machine.vnni({"flags": flags}) is expected


def test_versions_are_read_without_importing():
    assert machine.version("numpy")
    assert machine.version("no-such-package-anywhere") is None
