"""What a killed run left, damaged in any file: the same command ends as if nothing had happened, and says so."""

import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest

from effxfer import progress
from effxfer.artifact import WEIGHTS, Artifact
from effxfer.train.state import Work
from tests import tiny

STAGES = {
    "finetune": {"fit": {**tiny.FIT, "epochs": 3}},
    "prune lottery": {"fit": {**tiny.FIT, "epochs": 1}},
    "search": {},
}
DAMAGES = {
    "cut": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "flipped": lambda content: content[: len(content) // 3] + b"\x04" + content[len(content) // 3 + 1 :],
    "a list": lambda content: b"[]\n",
    "noise": lambda content: bytes(range(256)) * 3,
}


class Killed(BaseException):
    """Ends a run as a kill does: nothing is tidied up."""


def kill(stage, source, out, data, monkeypatch):
    """Leave the work directory of a run that was killed late."""
    with monkeypatch.context() as patch:
        if stage == "search":
            patch.setattr("effxfer.search.study.conclude", lambda *_: _die())
        else:
            noted, note = [], Work.note
            last = 2 if stage == "finetune" else 3
            patch.setattr(Work, "note", lambda w, row: (noted.append(row), note(w, row), len(noted) == last and _die()))
        with pytest.raises(Killed):
            tiny.stage(stage, source, out, data, **STAGES[stage])
    return out.parent / f".work-{out.name}"


def _die():
    raise Killed


def outcome(made: Artifact) -> tuple:
    """What must not differ: weights, and what was measured of them."""
    accuracy = {row.name: row.value for row in made.manifest.report.rows if row.name.startswith("accuracy/")}
    return made.manifest.files[WEIGHTS], accuracy, made.manifest.key


@pytest.fixture(scope="module", params=STAGES)
def killed(request, dense, data, tmp_path_factory):
    """A stage, what it comes to, and what a killed run of it left."""
    stage, folder = request.param, tmp_path_factory.mktemp("killed")
    whole = tiny.stage(stage, dense, folder / "whole", data, **STAGES[stage])
    with pytest.MonkeyPatch.context() as patch:
        work = kill(stage, dense, folder / "out", data, patch)
    return stage, outcome(whole), work


def files(work: Path) -> list[Path]:
    return sorted(path.relative_to(work) for path in work.rglob("*") if path.is_file())


def again(killed, dense, data, tmp_path, damaged):
    """Damage a copy of what was left, and run the same again; give what was said."""
    stage, whole, left = killed
    work, said = tmp_path / ".work-out", list[str]()
    shutil.copytree(left, work)
    for name, damage in damaged.items():
        (work / name).write_bytes(damage((work / name).read_bytes()))
    with progress.show_through(lambda label, total: nullcontext(lambda _steps, _text: None), said.append):
        made = tiny.stage(stage, dense, tmp_path / "out", data, **STAGES[stage])
    assert outcome(made) == whole
    assert not work.exists()
    return said


def test_undamaged_it_goes_on_without_a_word(killed, dense, data, tmp_path):
    assert again(killed, dense, data, tmp_path, {}) == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_all_files_damaged_at_once(killed, dense, data, tmp_path, damage):
    left = killed[2]
    assert again(killed, dense, data, tmp_path, dict.fromkeys(files(left), DAMAGES[damage]))


def test_each_file_damaged_by_itself(killed, dense, data, tmp_path):
    kinds = list(DAMAGES)
    for number, name in enumerate(files(killed[2])):
        kind = kinds[number % len(kinds)]
        said = again(killed, dense, data, tmp_path / str(number), {name: DAMAGES[kind]})
        assert all("damaged" in text for text in said), (name, kind, said)
        shutil.rmtree(tmp_path / str(number))
