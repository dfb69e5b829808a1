"""Two thousand mutations each of exported files, tables and pipelines: refused or read, in bounded time and memory.

Manifests, tickets and adapters have theirs in `documents.test_find_mistake`. `EFFXFER_FUZZ` sets another number of
mutations.
"""

import csv
import os
import random
import resource
from pathlib import Path

import pytest
from PIL import Image

from effxfer.errors import EffxferError
from effxfer.runtime.model_file.metadata import ModelError
from effxfer.runtime.model_file.seal import add_seal, remove_seal
from tests import plans

COUNT = int(os.environ.get("EFFXFER_FUZZ", "2000"))
SECONDS, GIGABYTE = 2.0, 2**20  # ru_maxrss counts kB
pytestmark = pytest.mark.slow


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Change one to four places of some bytes: flip, cut, drop, insert, repeat or zero."""
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(len(content) + 1)
        end = min(len(content), start + rng.choice((1, 1, 2, 4, 16, 200)))
        content = rng.choice((
            lambda c, s, e: c[:s] + bytes(b ^ (1 << rng.randrange(8)) for b in c[s:e]) + c[e:],
            lambda c, s, e: c[: max(s, 1)],
            lambda c, s, e: c[:s] + c[e:],
            lambda c, s, e: c[:s] + rng.randbytes(e - s) + c[s:],
            lambda c, s, e: c[:e] + c[s:e] * rng.choice((1, 3, 50)) + c[e:],
            lambda c, s, e: c[:s] + bytes(e - s) + c[e:],
        ))(content, start, end) or b"\n"  # fmt: skip
    return content


def cpu_seconds() -> float:
    """CPU time of this process and of the children that it waited for: other load does not count."""
    return sum(os.times()[:4])


def each(make, use, count=COUNT):
    """Make and use mutations; return how many were refused, and which took too long.

    Any exception but one of this project's ends the test; so does a crash of this process.
    """
    refused, slow = 0, []
    for number in range(count):
        make(random.Random(number))
        before = cpu_seconds()
        try:
            use()
        except (EffxferError, ModelError):
            refused += 1
        if (took := cpu_seconds() - before) > SECONDS:
            slow.append((number, round(took, 1)))
    return refused, slow


@pytest.fixture(autouse=True)
def _bounded(tmp_path, monkeypatch):
    """At most one GB more than before, in this process and in every child; no file outside the test's folder."""
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)
    before = {who: resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)}
    entries = set(tmp_path.parent.iterdir())
    yield
    for who, most in before.items():
        assert resource.getrusage(who).ru_maxrss - most < GIGABYTE
    assert set(tmp_path.parent.iterdir()) == entries
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("resealed", [False, True], ids=["as it is", "sealed again"])
def test_exported_files(exported, call, tmp_path, resealed):
    file, photo = tmp_path / "model.onnx", tmp_path / "photo.png"
    Image.new("RGB", (20, 20), "red").save(photo)
    content = (exported.path / "model.onnx").read_bytes()

    def make(rng):
        file.write_bytes(add_seal(mutated(remove_seal(content), rng)) if resealed else mutated(content, rng))

    refused, slow = each(make, lambda: call("predict", file, photo, "--json"))
    assert slow == []
    assert refused > COUNT / 4


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet"])
def test_tables(folder, call, tmp_path, kind):
    images = sorted(folder.rglob("*.*"))
    rows = [("image", "label"), *((str(image), image.parent.name) for image in images)]
    table = tmp_path / f"table.{kind}"
    content = written(table, rows, kind)

    def make(rng):
        table.write_bytes(mutated(content, rng))

    refused, slow = each(make, lambda: call("check", table))
    assert slow == []
    assert refused > COUNT / 100


def written(table: Path, rows: list[tuple[str, str]], kind: str) -> bytes:
    """Write a table, and return its bytes."""
    if kind == "parquet":
        arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        head, *body = rows
        parquet.write_table(arrow.table({name: [row[i] for row in body] for i, name in enumerate(head)}), table)
    else:
        with table.open("w", newline="") as stream:
            csv.writer(stream, delimiter="\t" if kind == "tsv" else ",").writerows(rows)
    return table.read_bytes()


def test_pipelines(folder, call, tmp_path):
    plan = plans.write(tmp_path / "mine.toml", folder)
    content = plan.read_bytes()

    def make(rng):
        plan.write_bytes(mutated(content, rng))

    refused, slow = each(make, lambda: call("run", plan, "--dry-run", "--out", tmp_path / "out"))
    assert slow == []
    assert refused > COUNT / 4
