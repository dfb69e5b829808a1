import numpy as np
import pytest
from PIL import Image

from effxfer.artifact import Artifact
from effxfer.errors import DataError, ModelFileError, SettingsError
from effxfer.memory_file import MEMORY, MemoryFile
from tests import tiny

FIT = {"epochs": 1, "lr": 0.01, "warmup": 0.0, "keep": "last"}


def write_month(folder, *classes, per_class=12):
    rng = np.random.default_rng(len(classes))
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            pixels = rng.integers(0, 80, (16, 16, 3), dtype=np.uint8)
            pixels[..., sum(map(ord, name)) % 3] += np.uint8(150)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return tiny.data_of(folder)


def learn(source, out, data, strategy="replay", stage="continual", **options):
    settings = {"strategy": strategy, "options": {**tiny.PLAIN, **options}, "fit": FIT}
    return tiny.stage(stage, source, out, data, **settings, **({"controls": "none"} if stage == "continual" else {}))


@pytest.fixture(scope="module")
def months(tmp_path_factory):
    folder = tmp_path_factory.mktemp("months")
    contents = {"2026-01": ("b", "c"), "2026-02": ("a",), "2026-03": ("c", "d")}
    return {name: write_month(folder / name, *classes) for name, classes in contents.items()}


@pytest.fixture(scope="module")
def january(tmp_path_factory, months):
    return learn(tiny.BACKBONE, tmp_path_factory.mktemp("runs") / "january", months["2026-01"])


def test_the_next_months_equal_one_long_run_and_finetune_learns_one_as_well(months, january, tmp_path):
    february = learn(january, tmp_path / "february", months["2026-02"])
    march = learn(february, tmp_path / "march", months["2026-03"], stage="finetune")
    whole = learn(tiny.BACKBONE, tmp_path / "whole", list(months.values()))
    assert march.manifest.classes == ("b", "c", "a", "d"), "in the order in which they came; `b` stays"
    for name in ("weights.safetensors", MEMORY):
        assert march.manifest.files[name] == whole.manifest.files[name]
    report = whole.manifest.report
    assert [row["after"] for row in report.tables[0].rows] == ["2026-01", "2026-02", "2026-03"]
    assert {"forgetting/test", "backward transfer/test", "accuracy/tasks/test"} <= {row.name for row in report.rows}
    again = learn(february, tmp_path / "again", [months["2026-01"], months["2026-03"]])
    assert again.manifest.files["weights.safetensors"] == march.manifest.files["weights.safetensors"], "one is known"
    assert "2026-01" in again.manifest.report.tables[0].rows[0], "and measured"


def test_a_pattern_of_folders_is_a_task_each(months, tmp_path):
    pattern = months["2026-01"].model_copy(update={"source": str(tmp_path.parent / "none" / "2026-*")})
    with pytest.raises(DataError, match="nothing matches"):
        learn(tiny.BACKBONE, tmp_path / "out", pattern)
    source = months["2026-01"].source.replace("2026-01", "2026-0[12]*")
    made = learn(tiny.BACKBONE, tmp_path / "out", months["2026-01"].model_copy(update={"source": source}))
    assert [one["name"] for one in made.manifest.data] == ["2026-01", "2026-02"]


def test_controls_stand_beside_it(months, tmp_path):
    settings = {"options": tiny.PLAIN, "fit": FIT, "controls": "full"}
    made = tiny.stage("continual", tiny.BACKBONE, tmp_path / "out", list(months.values())[:2], **settings)
    ways = [row["learned by"] for row in made.manifest.report.tables[1].rows]
    assert ways == ["replay", "naive", "joint", "nearest mean"]


def test_a_memory_may_refer_to_examples_that_stay_at_hand(months, tmp_path):
    first = learn(tiny.BACKBONE, tmp_path / "first", months["2026-01"], store="references")
    assert "kept/rows" not in MemoryFile.read(first.path / MEMORY).tensors()
    with pytest.raises(DataError, match="only refers to examples of '2026-01'") as caught:
        learn(first, tmp_path / "next", months["2026-02"], store="references")
    assert caught.value.code == "E380"
    both = [months["2026-01"], months["2026-02"]]
    referring = learn(first, tmp_path / "next", both, store="references")
    copying = learn(tiny.BACKBONE, tmp_path / "copying", both)
    assert referring.manifest.files["weights.safetensors"] == copying.manifest.files["weights.safetensors"]


def test_a_pruned_network_goes_on_with_its_zeros(january, months, tmp_path):
    """And its memory came through the pruning."""
    options, fit = {"strategy": "replay", "options": tiny.PLAIN}, {"epochs": 1}
    ticket = tiny.stage("prune lottery", january, tmp_path / "ticket", months["2026-01"], rounds=1, fit=fit, **options)
    net = learn(ticket, tmp_path / "next", months["2026-02"]).net()
    assert net.classes == ("b", "c", "a")
    assert net.masks()
    assert all(bool((net.get_parameter(name)[~keep] == 0).all()) for name, keep in net.masks().items())


@pytest.mark.slow
def test_an_exported_file_has_all_classes_and_no_memory(january, months, tmp_path):
    february = learn(january, tmp_path / "february", months["2026-02"])
    made = tiny.stage("export", february, tmp_path / "onnx", [months["2026-01"], months["2026-02"]], int8=False)
    assert MEMORY not in made.manifest.files
    assert made.manifest.classes == ("b", "c", "a")
    assert made.manifest.report["parity/agreement"].value == 100


@pytest.mark.parametrize(
    ("strategy", "options", "classes", "code", "text"),
    [
        ("der", {}, ("a",), "", "made with strategy 'replay', not 'der'"),
        ("replay", {"scenario": "domain"}, ("b", "c"), "", "made with scenario 'class', not 'domain'"),
        ("replay", {}, ("a", "B"), "E381", "class 'B' of .* differs from the earlier class 'b' by case alone"),
    ],
)
def test_what_does_not_fit_is_refused_before_images_are_read(january, tmp_path, strategy, options, classes, code, text):
    data = write_month(tmp_path / "april", *classes)
    with pytest.raises((SettingsError, DataError), match=text) as caught:
        learn(january, tmp_path / "out", data, strategy, **options)
    assert caught.value.code == code


@pytest.mark.parametrize(("scenario", "classes"), [("domain", ("b", "e")), ("task", ("b", "e"))])
def test_classes_must_fit_the_scenario(months, tmp_path, scenario, classes):
    data = write_month(tmp_path / "april", *classes)
    with pytest.raises(DataError, match=f"in the scenario {scenario}") as caught:
        learn(tiny.BACKBONE, tmp_path / "out", [months["2026-01"], data], scenario=scenario)
    assert caught.value.code == "E382"


def test_names_of_tasks_are_unique(january, months, tmp_path):
    with pytest.raises(SettingsError, match="two tasks are called '2026-02'"):
        learn(january, tmp_path / "out", [months["2026-02"]] * 2)
    other = write_month(tmp_path / "2026-01", "a", "b")
    with pytest.raises(SettingsError, match="has learned a task '2026-01' of other data"):
        learn(january, tmp_path / "out", other)
    with pytest.raises(SettingsError, match="learned these tasks already"):
        learn(january, tmp_path / "out", months["2026-01"])


def test_images_of_another_size_and_memories_of_other_networks_are_refused(january, months, tmp_path):
    with pytest.raises(SettingsError, match="memory holds images of 16 px, not 24"):
        tiny.stage("continual", january, tmp_path / "out", months["2026-02"], size=24, options=tiny.PLAIN)
    other = january.net()
    other.memory = None
    other.backbone = {"source": "effxfer.net.cifar:resnet20", "args": {"width": 4}}
    from effxfer.memory_file import read_memory

    with pytest.raises(ModelFileError, match="memory of a network with another backbone") as caught:
        read_memory(other, january.path / MEMORY)
    assert caught.value.code == "E416"


def test_a_damaged_memory_is_noticed(january, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in january.path.iterdir():
        copy.joinpath(file.name).write_bytes(file.read_bytes())
    content = bytearray((copy / MEMORY).read_bytes())
    content[-1] ^= 1
    (copy / MEMORY).write_bytes(bytes(content))
    with pytest.raises(ModelFileError, match="was changed since it was written"):
        Artifact.load(copy)


def test_where_the_task_is_known_only_its_classes_compete_in_the_report(months, tmp_path):
    data = [months["2026-01"], write_month(tmp_path / "other", "a", "d")]
    made = learn(tiny.BACKBONE, tmp_path / "out", data, scenario="task")
    report, (matrix, *_) = made.manifest.report, made.manifest.report.tables
    last = matrix.rows[-1]
    # Both test splits have as many images.
    assert report["accuracy/test"].value == pytest.approx((last["2026-01"] + last["other"]) / 2, abs=0.01)
    assert any("where all classes compete, as in an exported file" in note for note in report.notes)


def test_forward_transfer_is_above_what_chance_reaches(months, tmp_path):
    data = [months["2026-01"], write_month(tmp_path / "again", "b", "c", per_class=10)]
    report = learn(tiny.BACKBONE, tmp_path / "out", data, scenario="domain").manifest.report
    assert report["forward transfer"].value == report["accuracy before learning"].value - 50


def test_a_head_of_other_classes_says_that_the_memory_is_gone(january, tmp_path):
    data = write_month(tmp_path / "new", "x", "y")
    other = tiny.stage("finetune", january, tmp_path / "other", data, fit={**FIT, "epochs": 0})
    assert MEMORY not in other.manifest.files
    assert any(
        note.startswith("W386 the memory of earlier tasks (2026-01) is dropped") for note in other.manifest.report.notes
    )
