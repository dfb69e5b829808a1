import json
from dataclasses import replace
from threading import Event, Thread

import pytest

from effxfer.artifact import MANIFEST, Artifact
from effxfer.errors import DataError, LockedError, ModelFileError, SettingsError
from effxfer.files import sha256
from effxfer.page.page import is_intact
from effxfer.pipeline import run as pipeline
from effxfer.pipeline.plan import read_plan
from effxfer.pipeline.teachers import settings_to_check, teacher_step
from effxfer.process.folder_lock import lock_folder
from effxfer.stages.runner.context import RunContext
from tests import plans, tiny


@pytest.fixture(scope="module")
def file(tmp_path_factory, folder):
    return plans.write(tmp_path_factory.mktemp("plan") / "mine.toml", folder)


@pytest.fixture(scope="module")
def done(tmp_path_factory, file):
    """A run that is over; tests that change it work on their own copy."""
    context = RunContext(out=tmp_path_factory.mktemp("run") / "out", device="cpu")
    plan = read_plan(file)
    return plan, context, pipeline.run(plan, context)


def states(plan, context):
    return [row["state"] for row in pipeline.statuses(plan, context)]


def contents(folder):
    found = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".lock"))
    return {str(path.relative_to(folder)): (sha256(path), path.stat().st_mtime_ns) for path in found}


def test_every_step_has_a_directory_and_a_parent(done):
    plan, context, made = done
    assert [one.path.name for one in made] == ["1-dense", "2-small", "3-dense-onnx", "4-small-onnx", "5-bench"]
    dense, small, dense_onnx, small_onnx, bench = (one.manifest for one in made)
    assert [small.parent, dense_onnx.parent, small_onnx.parent] == [dense.key, dense.key, small.key]
    assert bench.parent == [dense_onnx.key, small_onnx.key]
    assert set(states(plan, context)) == {"done"}


def test_a_second_run_does_nothing(done, monkeypatch):
    plan, context, made = done
    before, told = contents(context.out), []
    for stage in pipeline.STAGES:
        refuse = tiny.substitute(stage, lambda: pytest.fail("a finished stage was run again"))
        monkeypatch.setitem(pipeline.STAGES, stage, refuse)
    again = pipeline.run(plan, context, lambda step, _: told.append(step.name))
    assert [one.manifest for one in again] == [one.manifest for one in made]
    assert told == [step.name for step in plan.steps]
    assert contents(context.out) == before


def test_a_changed_step_makes_what_follows_stale(done, file):
    _, context, _ = done
    changed = read_plan(file, changes=["small.fit.epochs=2"])
    assert states(changed, context) == ["done", "stale", "done", "stale", "stale"]
    with pytest.raises(SettingsError, match="2-small holds a result of prune channels made from other"):
        pipeline.run(changed, context)


def test_the_conclusion_tells_of_every_network_and_the_models(done):
    plan, _, made = done
    networks, models = pipeline.summarize_run(plan, made).tables
    assert [row["stage"] for row in networks.rows] == ["1-dense", "2-small"]
    assert networks.rows[0]["accuracy test %"] == made[0].manifest.report["accuracy/test"].value
    assert networks.rows[1]["multiply-adds M"] == made[1].manifest.report["macs/after"].value
    assert models.rows == made[-1].manifest.report.tables[0].rows


def test_the_page_is_written_once(done):
    plan, context, made = done
    page = pipeline.publish(plan, made, context, "effxfer run mine")
    text = page.read_text()
    assert "effxfer run mine" in text
    assert all(one.path.name in text for one in made)
    written = page.stat().st_ino
    assert pipeline.publish(plan, made, context, "effxfer run mine") == page
    assert page.stat().st_ino == written
    page.unlink()


@pytest.mark.parametrize(
    "damage", [lambda page: page[:-1000], lambda page: b"", lambda page: page.replace(b"%", b"?", 1)]
)
def test_a_page_that_is_damaged_is_made_again(done, damage):
    plan, context, made = done
    page = pipeline.publish(plan, made, context, "effxfer run mine")
    whole = page.read_bytes()
    page.write_bytes(damage(whole))
    assert pipeline.publish(plan, made, context, "effxfer run mine") == page
    assert is_intact(page)
    assert len(page.read_bytes()) > 0.9 * len(whole)
    page.unlink()


def test_before_a_run_everything_is_to_do(file, tmp_path):
    plan, context = read_plan(file), RunContext(out=tmp_path / "out")
    rows = pipeline.statuses(plan, context)
    assert {row["state"] for row in rows} == {"to do"}
    assert [row["from"] for row in rows] == ["backbone", "dense", "dense", "small", "dense-onnx, small-onnx"]
    assert not (tmp_path / "out").exists(), "looking writes nothing"


def cut_off(monkeypatch, name):
    """Make a stage stop as at Ctrl-C, in the middle of its work."""

    def stop(*_args, work, **_more):
        work.note({"epoch": 1})
        raise KeyboardInterrupt

    monkeypatch.setitem(pipeline.STAGES, name, tiny.substitute(name, lambda: stop))


def test_a_run_that_was_cut_off_goes_on(done, file, tmp_path, monkeypatch):
    plan, _, made = done
    context = RunContext(out=tmp_path / "out", device="cpu")
    cut_off(monkeypatch, "prune channels")
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(plan, context)
    assert states(plan, context) == ["done", "cut off", "to do", "to do", "to do"]
    before = contents(context.out / "1-dense")
    monkeypatch.undo()
    plan = replace(plan, steps=plan.steps[:2])
    again = pipeline.run(plan, context)
    assert contents(context.out / "1-dense") == before
    assert [one.manifest.key for one in again] == [one.manifest.key for one in made[:2]]
    assert [one.manifest.files["weights.safetensors"] for one in again] == [
        one.manifest.files["weights.safetensors"] for one in made[:2]
    ], "equal keys, equal weights"


def test_an_altered_result_is_named(done, file, tmp_path):
    import shutil

    plan, context, _ = done
    copy = RunContext(out=shutil.copytree(context.out, tmp_path / "copy"))
    manifest = copy.out / "1-dense" / MANIFEST
    raw = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**raw, "key": "0" * 16}))
    assert states(plan, copy)[:3] == ["altered", "stale", "stale"]


def test_a_step_at_work_is_running(done):
    plan, context, _ = done
    with held_by_another(context.out / f".work-{plan.place(plan.steps[1])}"):
        assert states(plan, context) == ["done", "running", "done", "stale", "stale"]


def test_a_run_that_still_looks_at_its_inputs_is_running(done, file, tmp_path):
    plan, _, _ = done
    context = RunContext(out=tmp_path / "out", device="cpu")
    with held_by_another(context.out):
        assert states(plan, context) == ["running", *["to do"] * 4]
    assert states(plan, context) == ["to do"] * 5
    plan, context, _ = done
    with held_by_another(context.out):
        assert states(plan, context) == ["done"] * 5


def test_a_refused_run_leaves_nothing(file, tmp_path):
    for change in ("dense.strategy=fulll", "data.source=/no/such/folder"):
        with pytest.raises((SettingsError, DataError)):
            pipeline.run(read_plan(file, changes=[change]), RunContext(out=tmp_path / "runs" / "out", device="cpu"))
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a" * 250, "a" * 300])
def test_a_name_too_long_is_refused_before_anything_is_read(folder, tmp_path, name):
    plan = read_plan(plans.write(tmp_path / "mine.toml", folder))
    plan = replace(plan, steps=(replace(plan.steps[0], name=name), *plan.steps[1:]))
    for call in (pipeline.run, pipeline.statuses):
        with pytest.raises(SettingsError, match=f"name of {len(name) + 2} letters"):
            call(plan, RunContext(out=tmp_path / "out", device="cpu"))
    assert [file.name for file in tmp_path.iterdir()] == ["mine.toml"]


class held_by_another:  # noqa: N801 - a context manager
    """Hold a folder from another thread, as another process would."""

    def __init__(self, folder):
        self.folder, self.ready, self.over = folder, Event(), Event()
        self.thread = Thread(target=self.hold)

    def hold(self):
        with lock_folder(self.folder):
            self.ready.set()
            self.over.wait(60)

    def __enter__(self):
        self.thread.start()
        assert self.ready.wait(60)

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def test_a_second_run_beside_the_first_is_refused(done):
    plan, context, _ = done
    with held_by_another(context.out), pytest.raises(LockedError, match="in use by process"):
        pipeline.run(plan, context)


def test_strategies_of_all_steps_are_checked_before_the_first_runs(file, tmp_path):
    plan = read_plan(file, changes=["dense.strategy=fulll", "small.options.bach=3"])
    with pytest.raises(SettingsError) as caught:
        pipeline.run(plan, RunContext(out=tmp_path / "out"))
    assert "stage 'dense': no strategy 'fulll' (did you mean 'full'?)" in str(caught.value)
    assert (
        "stage 'small': options of strategy full: unknown setting 'bach' (did you mean 'batch' or 'batchnorm'?)"
        in str(caught.value)
    )
    assert not list(tmp_path.glob("out/*/"))


TICKETS = """
[[data]]
name = "here"
source = "{folder}"
val_fraction = 0.2
test_fraction = 0.2

[[data]]
name = "there"
source = "{folder}"
val_fraction = 0.2
test_fraction = 0.2
max_per_class = 5

[backbone]
source = "effxfer.net.cifar:resnet20"
pretrained = false
size = 16

[[stage]]
name = "found"
run = "prune"
sparsity = 0.5
rounds = 1
tasks = ["here"]
options.batch = 8
fit.epochs = 0

[[stage]]
run = "ticket"
tasks = ["there"]

[[stage]]
name = "carried"
run = "ticket"
file = "{ticket}"
tasks = ["there"]
mask = "random"
"""


@pytest.fixture
def tickets(folder, tmp_path):
    """A pipeline that finds a ticket, trains it on another task, and trains one from a file."""
    text = TICKETS.replace("{ticket}", str(tmp_path / "out" / "1-found" / "ticket.safetensors"))
    return plans.write(tmp_path / "tickets.toml", folder, text), RunContext(out=tmp_path / "out", device="cpu")


def test_a_ticket_is_trained_on_another_task_in_a_pipeline(tickets):
    file, context = tickets
    plan = read_plan(file)
    assert [(step.source, bool(step.file)) for step in plan.steps] == [("", False), ("found", False), ("", True)]
    pipeline.run(replace(plan, steps=plan.steps[:1]), context)
    made = pipeline.run(plan, context)
    assert set(states(plan, context)) == {"done"}
    assert made[1].manifest.parent == made[2].manifest.parent
    assert [one["name"] for one in made[1].manifest.data] == ["there"]
    assert [row["stage"] for row in pipeline.summarize_run(plan, made).tables[0].rows] == [
        "1-found", "2-ticket", "3-carried"
    ]  # fmt: skip
    assert made[1].net().masks().keys() == made[0].net().masks().keys()
    assert pipeline.statuses(plan, context)[2]["from"].endswith("ticket.safetensors")


def test_what_a_ticket_cannot_be_trained_by_is_told_before_the_first_stage(tickets, tmp_path):
    file, context = tickets
    with pytest.raises(ModelFileError, match="no ticket"):
        pipeline.run(read_plan(file), context)
    plan = read_plan(file, changes=["ticket.options.bach=3"])
    with pytest.raises(SettingsError, match="stage 'ticket': options of strategy full: unknown setting 'bach'"):
        pipeline.run(replace(plan, steps=plan.steps[:2]), context)
    assert not list(context.out.glob("*/"))


ADAPTED = f"""{plans.HEAD}
[[stage]]
name = "again"
run = "adapter"
file = "{{adapter}}"

[[stage]]
name = "more"
run = "finetune"
fit.epochs = 0
"""


def test_an_adapter_goes_on_the_backbone_in_a_pipeline(folder, data, tmp_path):
    told = {"strategy": "ssf", "options": tiny.PLAIN, "fit": {**tiny.FIT, "epochs": 1}}
    made = tiny.finetune(tmp_path / "made", data, **told)
    file = tmp_path / "adapted.toml"
    file.write_text(ADAPTED.format(folder=folder, adapter=made.path))
    done = pipeline.run(read_plan(file), RunContext(out=tmp_path / "out", device="cpu"))
    again, more = (Artifact.load(tmp_path / "out" / name) for name in ("1-again", "2-more"))
    assert again.manifest.files["weights.safetensors"] == made.manifest.files["weights.safetensors"]
    assert more.manifest.parent == again.manifest.key
    assert done is not None
    file.write_text(ADAPTED.format(folder=folder, adapter=made.path).replace("file =", "#"))
    with pytest.raises(SettingsError, match="there is no adapter to put on"):
        read_plan(file)


def test_an_earlier_step_teaches_a_later_one(done, file, tmp_path):
    _, finished, made = done
    plan = read_plan(file, changes=["small.teacher.source=dense", "small.teacher.logits=0.5"])
    dense, small = plan.steps[:2]
    assert (teacher_step(plan, dense), teacher_step(plan, small)) == ("", "dense")
    assert settings_to_check(plan, small).teacher_network is None
    assert pipeline.mistakes(plan) == []
    assert states(plan, finished)[:2] == ["done", "stale"]
    context = replace(finished, out=tmp_path / "2-small")
    taught = pipeline.run_step(plan, small, {"dense": made[0]}, context)
    assert taught.manifest.settings["teacher"]["source"] == str(made[0].path)
    assert '"teacher"' in (taught.path / "metrics.jsonl").read_text()


def test_a_teacher_that_is_no_earlier_step_is_looked_for_elsewhere(file):
    plan = read_plan(file, changes=["small.teacher.source=small-onnx", "small.teacher.logits=0.5"])
    assert teacher_step(plan, plan.steps[1]) == ""
    with pytest.raises(ModelFileError, match="small-onnx"):
        pipeline.mistakes(plan)
