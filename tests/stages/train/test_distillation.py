import shutil
from dataclasses import replace

import pytest
import torch

from effxfer.data.batches.augment import normalize
from effxfer.errors import EffxferError, SettingsError
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.runtime.text.tokens import Tokens
from effxfer.settings import build
from effxfer.stages.runner.context import RunContext
from effxfer.stages.runner.key import settings_identity
from effxfer.stages.runner.tasks import load_task
from effxfer.stages.settings.common import Finetune
from effxfer.stages.settings.prune_settings import Channels
from effxfer.stages.train.distillation import describe_misfit, teacher_for
from effxfer.train.settings import Teacher
from effxfer.transfer.regularized.distill import divergence
from tests import tiny
from tests.runtime.text.tiny_tokenizers import WHOLE_WORDS, tokens

SHORT = {"fit": {**tiny.FIT, "epochs": 1}}
TICKETS = ("prune gradual", "prune lottery", "prune structured")


@pytest.fixture(scope="module")
def smooth(tmp_path_factory, data):
    options = {**tiny.PLAIN, "label_smoothing": 0.1}
    return tiny.finetune(tmp_path_factory.mktemp("smooth") / "dense", data, options=options, **SHORT)


def notes(made):
    return [note for note in made.manifest.report.notes if "label smoothing" in note]


@pytest.mark.parametrize("given", [0.5, {"logits": 0.5}])
def test_a_number_is_the_weight_of_the_outputs(given):
    made = build(Channels, {"ratio": 0.5, "teacher": given}, "prune").teacher
    assert made == Teacher(logits=0.5)
    assert made.listens
    assert not Teacher().listens
    assert Teacher(features=1.0).listens


@pytest.mark.parametrize("given", [1.5, -1, True, "0.5", {"logits": 2}, {"temperature": 0}, {"feature": 1}])
def test_nonsense_is_refused(given):
    with pytest.raises(SettingsError, match="teacher"):
        build(Channels, {"ratio": 0.5, "teacher": given}, "prune")


def test_what_a_network_was_trained_with_stays_known(smooth, data, tmp_path):
    assert smooth.manifest.smoothing == smooth.net().smoothing == 0.1
    plain = tiny.stage("finetune", smooth, tmp_path / "plain", data, **SHORT)
    assert plain.manifest.smoothing == 0.1
    assert tiny.stage("prune compact", plain, tmp_path / "compact", data).manifest.smoothing == 0.1
    other = tiny.write_images(tmp_path / "other")
    (other / "red").rename(other / "ruby")
    assert tiny.stage("finetune", smooth, tmp_path / "new", tiny.data_of(other), **SHORT).manifest.smoothing == 0


def test_a_teacher_with_label_smoothing_is_taken_as_it_is(smooth, dense, data, tmp_path):
    name = "prune channels"
    quiet = tiny.stage(name, smooth, tmp_path / "quiet", data, teacher=0.5, **SHORT)
    (note,) = notes(quiet)
    assert note.startswith(
        "the teacher was trained with label smoothing 0.1, so its outputs are used at temperature 1;"
    )
    (note,) = notes(
        tiny.stage(name, smooth, tmp_path / "hot", data, teacher={"logits": 0.5, "temperature": 4}, **SHORT)
    )
    assert "distils badly at temperature 4" in note
    assert not notes(tiny.stage(name, smooth, tmp_path / "alone", data, **SHORT))
    assert not notes(tiny.stage(name, dense, tmp_path / "dense", data, teacher=0.5, **SHORT))


@pytest.mark.parametrize("name", TICKETS)
def test_tickets_listen_too(name, dense, data, tmp_path):
    made = tiny.stage(name, dense, tmp_path / "out", data, teacher={"logits": 0.5, "features": 1.0}, **SHORT)
    rows = (made.path / "metrics.jsonl").read_text()
    assert '"teacher"' in rows
    assert '"features"' in rows


@pytest.mark.parametrize("name", TICKETS)
def test_a_ticket_of_new_classes_has_no_teacher(name, data, tmp_path):
    with pytest.raises(SettingsError, match="not trained for these classes yet"):
        tiny.stage(name, tiny.BACKBONE, tmp_path / "out", data, teacher=0.5)


def test_a_network_listens_to_another_one(dense, data, tmp_path):
    """The claim, against the null setting: with a teacher of the same task it ends nearer to it than without."""
    given = {"teacher": {"source": str(dense.path), "logits": 0.9}, "fit": {**tiny.FIT, "epochs": 4}}
    taught = tiny.finetune(tmp_path / "taught", data, **given)
    alone = tiny.finetune(tmp_path / "alone", data, fit=given["fit"])
    assert '"teacher"' in (taught.path / "metrics.jsonl").read_text()
    task = load_task(data, dense.net().input, RunContext(out=tmp_path / "out"))
    images = normalize(torch.tensor(task.test.rows), task.input)
    with torch.inference_mode():
        wanted = dense.net().eval()(images)
        far = [float(divergence(made.net().eval()(images), wanted)) for made in (taught, alone)]
    assert far[0] < far[1]


def test_its_key_is_what_is_in_the_teacher_not_where_it_lies(dense, tmp_path):
    moved = shutil.copytree(dense.path, tmp_path / "moved")
    keys = [
        settings_identity(build(Finetune, {"teacher": {"source": str(p), "logits": 0.5}}, "f"))["teacher"]
        for p in (dense.path, moved)
    ]
    assert keys[0] == keys[1]
    assert dense.manifest.key in str(keys[0])


@pytest.mark.parametrize(
    ("teacher", "problem"),
    [
        ({"source": "timm:resnet18", "logits": 0.5}, "is not a model directory"),
        ({"source": "nowhere", "logits": 0.5}, "no model 'nowhere'"),
        ({"source": "resnet20-cifar10", "logits": 0.5}, "has 10 classes, this task has 3"),
    ],
)
def test_a_teacher_that_cannot_teach_is_refused(teacher, problem, data, tmp_path):
    with pytest.raises(EffxferError, match=problem):
        tiny.finetune(tmp_path / "out", data, teacher=teacher, **SHORT)


def test_a_teacher_without_weight_is_refused():
    with pytest.raises(SettingsError, match="source has no effect"):
        build(Teacher, {"source": "somewhere"}, "teacher")


def test_a_teacher_sees_images_as_it_knows_them(dense):
    teacher, seen = dense.net().eval(), Preprocess(size=16, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    pixels = torch.randint(0, 255, (4, 16, 16, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    with torch.inference_mode():
        own = teacher(normalize(pixels, teacher.input))
        told = teacher_for(teacher, seen)(normalize(pixels, seen))
    torch.testing.assert_close(told, own, rtol=1e-3, atol=1e-3)


def test_a_teacher_reads_what_its_student_reads():
    assert describe_misfit(Preprocess(size=32), Preprocess(size=16)) == ""
    assert describe_misfit(tokens(size=20), tokens(size=16)) == ""
    assert describe_misfit(Preprocess(), tokens()) == "takes images, this network texts"
    assert describe_misfit(tokens(size=8), tokens(size=16)) == "reads 8 tokens, this network 16"
    other = Tokens(tokenizer=WHOLE_WORDS, size=16, pad=1)
    assert describe_misfit(other, tokens()) == ""
    assert describe_misfit(other, tokens(), per="position").startswith("has another tokenizer")
    assert describe_misfit(tokens(), tokens(), per="position") == ""
    assert describe_misfit(replace(other, pattern="{text}{sep}{other}"), tokens()).startswith("takes pairs")
