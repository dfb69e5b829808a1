import subprocess
import sys

import pytest
import torch
from torch import nn

from effxfer.train.settings import METRICS
from effxfer.train.state import Work, clone, load, save

STATE = {"weights": {"a": torch.arange(1000.0)}, "step": 3, "rows": [{"loss": 0.5}], "none": None, "text": "x"}


def equal(a, b):
    return {**a, "weights": 0} == {**b, "weights": 0} and torch.equal(a["weights"]["a"], b["weights"]["a"])


def test_a_checkpoint_survives(tmp_path):
    save(tmp_path / "c.pt", STATE)
    assert equal(load(tmp_path / "c.pt"), STATE)
    assert [path.name for path in tmp_path.iterdir()] == ["c.pt"], "one file, so that no kill comes between two"


@pytest.mark.parametrize("place", [0, 31, 32, 100, 0.5, 0.999])
def test_a_flipped_bit_anywhere_makes_it_absent(tmp_path, place):
    save(tmp_path / "c.pt", STATE)
    content = bytearray((tmp_path / "c.pt").read_bytes())
    content[int(place * len(content)) if isinstance(place, float) else place] ^= 1
    (tmp_path / "c.pt").write_bytes(content)
    assert load(tmp_path / "c.pt") is None


@pytest.mark.parametrize("length", [0, 10, 32, 500])
def test_a_truncated_one_is_absent(tmp_path, length):
    save(tmp_path / "c.pt", STATE)
    (tmp_path / "c.pt").write_bytes((tmp_path / "c.pt").read_bytes()[:length])
    assert load(tmp_path / "c.pt") is None
    assert load(tmp_path / "none.pt") is None


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "canary"), "w"))

    save(tmp_path / "c.pt", {"x": Evil()})
    with pytest.raises(Exception, match="Weights only"):
        load(tmp_path / "c.pt")
    assert not (tmp_path / "canary").exists()


def test_a_full_disk_keeps_the_old_checkpoint(tmp_path):
    save(tmp_path / "c.pt", STATE)
    code = (
        "import resource, sys, torch; from pathlib import Path; from effxfer.train.state import save; "
        "from effxfer.errors import ResourceError; resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000))\n"
        "try: save(Path(sys.argv[1]), {'x': torch.zeros(100_000)})\n"
        "except ResourceError: sys.exit(5)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "c.pt")], check=False).returncode == 5
    assert equal(load(tmp_path / "c.pt"), STATE)


def test_a_unit_of_work_is_done_once(tmp_path):
    done = []

    def compute():
        done.append(1)
        return {"x": torch.ones(2), "n": len(done)}

    work = Work(tmp_path).part("part")
    assert work.once("a", compute)["n"] == work.once("a", compute)["n"] == 1
    assert work.once("b", compute)["n"] == 2
    assert Work(tmp_path).part("part").once("a", compute)["n"] == 1
    assert Work(None).once("a", compute)["n"] == 3
    assert Work(None).part("x").file("y") is None
    assert len(done) == 3


def test_a_damaged_unit_is_done_again(tmp_path):
    work = Work(tmp_path)
    work.once("a", lambda: {"n": 1})
    (tmp_path / "a.pt").write_bytes(b"x" * 100)
    assert work.once("a", lambda: {"n": 2}) == {"n": 2}


def test_rows_are_noted_line_by_line(tmp_path):
    for n in range(2):
        Work(tmp_path).note({"epoch": n})
        Work(None).note({"epoch": n})
    assert (tmp_path / METRICS).read_text() == '{"epoch": 0}\n{"epoch": 1}\n'


def test_a_clone_is_not_the_module(tmp_path):
    net = nn.Linear(2, 2)
    copy = clone(net)
    nn.init.zeros_(net.weight)
    assert copy["weight"].any()
