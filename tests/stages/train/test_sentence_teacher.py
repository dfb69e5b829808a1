import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

pytest.importorskip("tokenizers")

from effxfer.data.settings import DataSettings
from effxfer.errors import SettingsError
from effxfer.net.settings import ENCODER, BackboneSettings
from effxfer.stages.train.sentence_teacher import reduce_width
from tests import tiny
from tests.data.text_files import texts

ARGS = {"vocabulary": 80, "width": 24, "layers": 1, "heads": 3, "mlp": 48}


@given(st.integers(2, 20), st.integers(1, 12), st.integers(0, 99))
def test_components_keep_the_differences_as_far_as_the_width_allows(n, width, seed):
    vectors = torch.randn(n, 8, generator=torch.Generator().manual_seed(seed))
    reduced = reduce_width(vectors, width)
    assert reduced.shape == (n, width)
    distances, kept = torch.cdist(vectors, vectors), torch.cdist(reduced, reduced)
    assert bool((kept <= distances + 1e-3).all())
    if width >= min(8, n - 1):
        assert torch.allclose(kept, distances, atol=1e-3)


def test_the_first_component_has_the_most_variance():
    vectors = torch.randn(50, 6) * torch.tensor([1.0, 9, 1, 3, 1, 1])
    variances = reduce_width(vectors, 6).var(0)
    assert bool((variances[:-1] >= variances[1:] - 1e-4).all())


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    folder.joinpath("alone.txt").write_text("".join(f"{text}\n" for text, _ in texts(100, seed=3)))
    return folder


@pytest.fixture(scope="module")
def alone(place):
    return DataSettings(source=str(place / "alone.txt"), labels="none")


@pytest.fixture(scope="module")
def teacher(place, alone):
    larger = BackboneSettings(source=ENCODER, args={**ARGS, "width": 32, "heads": 4, "vocabulary": 60}, size=24)
    fit = {"epochs": 2, "lr": 0.01, "clip": 0.0}
    return tiny.stage("pretrain", larger, place / "teacher", alone, options={"batch": 16}, fit=fit)


def student(teacher, alone, out, **changes):
    source = BackboneSettings(source=ENCODER, args=ARGS, size=24)
    told = {"source": str(teacher.path)} if teacher else None
    fit = {"epochs": 4, "lr": 0.01, "keep": "last", "clip": 0.0}
    return tiny.stage("pretrain", source, out, alone, options={"batch": 16}, fit=fit, teacher=told, **changes)


def alignment(net, teacher, lines) -> float:
    """How alike the two networks order the similarities of texts."""
    vectors = []
    for one in (net, teacher.net()):
        with torch.inference_mode():
            ids = torch.from_numpy(one.input.feed(one.input.encode(lines).rows))
            features = one.pooled_taps(ids, ("out",))["out"]
        vectors.append(F.normalize(features - features.mean(0), dim=1))
    ours, theirs = (v @ v.T for v in vectors)
    return float(torch.corrcoef(torch.stack([ours.flatten(), theirs.flatten()]))[0, 1])


def test_the_student_orders_texts_as_a_teacher_of_another_width_and_tokenizer_does(teacher, alone, tmp_path):
    """Against the null setting: no teacher."""
    taught, null = student(teacher, alone, tmp_path / "taught"), student(None, alone, tmp_path / "null")
    lines = [text for text, _ in texts(60, seed=9)]
    assert alignment(taught.net(), teacher, lines) > alignment(null.net(), teacher, lines) + 0.1
    assert any(note.startswith("teacher: ") for note in taught.manifest.report.notes)


def test_another_teacher_has_another_key(teacher, alone, tmp_path):
    keys = {student(one, alone, tmp_path / name).manifest.key for name, one in (("a", teacher), ("b", None))}
    assert len(keys) == 2


def test_a_teacher_of_images_is_refused(dense, alone, tmp_path):
    with pytest.raises(SettingsError, match="takes images"):
        student(dense, alone, tmp_path / "x")
