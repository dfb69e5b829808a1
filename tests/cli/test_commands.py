"""Commands in this process: what they print, and which mistakes they name."""

import csv
import io
import json
import shlex
import shutil
import subprocess

import onnx
import pytest
from typer.testing import CliRunner

from effxfer.artifact import Artifact
from effxfer.cli.app import app
from effxfer.cli.command_line import reproduce
from effxfer.errors import DataError, GateError, ModelFileError, SettingsError
from effxfer.runtime import predict as runtime
from effxfer.runtime.printing import printable
from tests import plans, tiny
from tests.benchmark.models import linear


def test_version(call):
    from effxfer import __version__

    assert call("--version").strip() == __version__


def test_a_result_ends_in_the_command_that_reproduces_it(call, dense, tmp_path):
    words = ["finetune", dense.path, "--out", tmp_path / "my out", "--epochs", "0", "--device", "cpu"]
    out = call(*words, "--force")
    assert f"model: {tmp_path / 'my out'}" in out
    assert shlex.split(out.splitlines()[-1]) == ["effxfer", *map(str, words)]
    assert Artifact.load(tmp_path / "my out").manifest.parent == dense.manifest.key


def test_json_is_all_there_is_on_stdout(call, dense, tmp_path):
    words = ["finetune", dense.path, "--out", tmp_path / "out", "--epochs", "0", "--device", "cpu"]
    told = json.loads(call(*words, "--json"))
    made = Artifact.load(tmp_path / "out")
    assert told["key"] == made.manifest.key
    assert told["report"] == json.loads(json.dumps(made.manifest.report.to_json()))
    assert shlex.split(told["command"]) == ["effxfer", *map(str, words)]


def test_flags_reach_the_settings(call, dense, tmp_path):
    told = json.loads(
        call("prune", dense.path, "--out", tmp_path / "out", "--method", "channels", "--ratio", 0.25, "--epochs", 2,
             "--lr", 0.02, "--seed", 9, "--set", "round_to=8", "--dry-run")
    )  # fmt: skip
    assert told["stage"] == "prune channels"
    settings = told["settings"]
    assert (settings["ratio"], settings["round_to"], settings["seed"]) == (0.25, 8, 9)
    assert (settings["fit"]["epochs"], settings["fit"]["lr"]) == (2, 0.02)
    assert told["done"] is False
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "error", "text"),
    [
        (["--set", "epohcs=3"], SettingsError, "epohcs"),
        (["--set", "fit.epoch=3"], SettingsError, "did you mean 'epochs'"),
        (["--strategy", "fulll"], SettingsError, "did you mean 'full'"),
        (["--set", "backbone.size=32"], SettingsError, "is a model already"),
        (["--set", "data=x"], SettingsError, "data is a table"),
        (["--device", "toaster"], SettingsError, "no device is called 'toaster'"),
        (["--data", "nowhere"], DataError, "nowhere"),
    ],
)
def test_mistakes_are_named(call, dense, tmp_path, words, error, text):
    with pytest.raises(error, match=text):
        call("finetune", dense.path, "--out", tmp_path / "out", *words)
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_not_there_is_named(call, tmp_path):
    with pytest.raises(ModelFileError, match="no model 'nowhere'"):
        call("finetune", "nowhere", "--out", tmp_path / "out")


def test_predict_needs_only_the_export(call, exported, folder):
    files = [folder / "red" / "00.png", folder / "blue" / "01.jpg"]
    rows = json.loads(call("predict", exported.path, *files, "--json", "--top", 2))["predictions"]
    assert [row["file"] for row in rows] == [str(file) for file in files]
    assert [row["top"][0]["label"] for row in rows] == ["red", "blue"]
    assert [len(row["top"]) for row in rows] == [2, 2]
    lines = call("predict", exported.path / "model.onnx", *files).splitlines()
    assert [line.split("\t")[1].split()[0] for line in lines[:-1]] == ["red", "blue"]
    assert lines[-1].startswith("effxfer predict")


def test_predictions_are_written_as_a_table(call, exported, folder, tmp_path):
    files = [folder / "red" / "00.png", folder / "blue" / "01.jpg"]
    call("predict", exported.path, *files, "--top", 2, "--out", tmp_path / "all.csv")
    header, *rows = csv.reader((tmp_path / "all.csv").read_text(encoding="utf-8").splitlines())
    assert header == ["file", "label", "probability", "label 2", "probability 2", "error"]
    assert [row[:2] for row in rows] == [[str(files[0]), "red"], [str(files[1]), "blue"]]
    assert all(0 <= float(row[4]) <= float(row[2]) <= 1 for row in rows)


def test_predict_names_what_it_cannot_read(call, exported, tmp_path):
    (tmp_path / "no.png").write_text("no image")
    with pytest.raises(DataError, match=r"no\.png"):
        call("predict", exported.path, tmp_path / "no.png")
    with pytest.raises(ModelFileError):
        call("predict", tmp_path / "nowhere", tmp_path / "no.png")


def test_predict_answers_the_others_when_an_image_is_damaged(exported, folder, tmp_path):
    good, bad = folder / "red" / "00.png", tmp_path / "cut.png"
    bad.write_bytes(good.read_bytes()[:60])
    words = ["predict", str(exported.path), str(good), str(bad), str(good)]
    with pytest.raises(DataError, match="1 of 3 images failed") as caught:
        CliRunner().invoke(app, [*words, "--out", str(tmp_path / "all.csv")], catch_exceptions=False)
    assert (caught.value.code, caught.value.exit_code) == ("E302", 3)
    _header, *rows = csv.reader((tmp_path / "all.csv").read_text(encoding="utf-8").splitlines())
    assert [(row[1], row[-1].partition(" ")[0]) for row in rows] == [("red", ""), ("", "E302"), ("red", "")]
    done = CliRunner().invoke(app, [*words, "--json"])
    told = json.loads(done.stdout)["predictions"]
    assert [row.get("label") for row in told] == ["red", None, "red"]
    assert told[1]["file"] == str(bad)
    assert told[1]["error"].startswith("E302")


def test_bench_without_out_keeps_nothing(call, exported, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    words = ["bench", exported.path, "--max-seconds", "0.2", "--set", "precision=0.5", "--json"]
    told = json.loads(call(*words))
    assert told["report"]["tables"][0]["rows"][0]["model"] == "onnx fp32"
    assert sorted(tmp_path.rglob("*")) == before


def test_bench_takes_bare_files_and_vets_those_of_others(call, exported, tmp_path):
    other = linear(tmp_path / "other.onnx")
    printed = call("bench", exported.path, other, "--max-seconds", 0.2)
    assert f"p50/{exported.path.name} fp32" in printed
    assert "ratio/other.onnx" in printed
    other.write_bytes(other.read_bytes()[:90])
    with pytest.raises(ModelFileError) as caught:
        call("bench", exported.path / "model.onnx", other, "--max-seconds", 0.2)
    assert (caught.value.code, caught.value.exit_code) == ("E424", 4)


def test_predict_opens_a_file_of_others_elsewhere_and_asks_for_labels(call, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "predict_files", None)
    with pytest.raises(ModelFileError, match="has no effxfer metadata") as caught:
        call("predict", linear(tmp_path / "other.onnx"), next(folder.rglob("*.png")))
    assert caught.value.code == "E428"


def test_bench_times_what_another_tool_made_of_an_exported_file_and_predict_refuses_it(
    call, exported, folder, tmp_path
):
    model = onnx.load(exported.path / "model.onnx")
    model.producer_name = "another tool"
    onnx.save(model, tmp_path / "other.onnx")
    told = call("bench", exported.path / "model.onnx", tmp_path / "other.onnx", "--max-seconds", 0.2)
    assert "other.onnx was changed since it was written" in told
    with pytest.raises(ModelFileError, match="was changed since it was written") as caught:
        call("predict", tmp_path / "other.onnx", next(folder.rglob("*.png")))
    assert caught.value.code == "E404"


def test_bench_previews_without_measuring(call, exported):
    told = json.loads(call("bench", exported.path, "--threads", 2, "--dry-run"))
    assert told["models"] == ["onnx"]
    assert told["settings"]["threads"] == 2


def test_check_tells_of_a_folder(call, folder, tmp_path):
    told = json.loads(call("check", folder, "--json", "--out", tmp_path))
    assert told["report"]["rows"] or told["report"]["tables"]
    assert (tmp_path / "data_audit.csv").is_file()


@pytest.mark.parametrize("key", ["data.allow_empty", "allow_empty"])
def test_check_takes_the_settings_of_data_as_every_command_does(call, tmp_path, key):
    tiny.write_images(tmp_path / "images")
    (tmp_path / "images" / "none").mkdir()
    with pytest.raises(DataError, match=r"`data\.allow_empty=true`"):
        call("check", tmp_path / "images")
    call("check", tmp_path / "images", "--set", f"{key}=true")
    with pytest.raises(SettingsError, match="did you mean 'allow_empty'"):
        call("check", tmp_path / "images", "--set", "data.allow_emty=true")


def test_check_fails_on_unreadable_images(call, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "no.png").write_text("no image")
    with pytest.raises(DataError, match=r"3 problems: a/no.png: class 'a' has 1 .* \(and 2 x E301\)"):
        call("check", tmp_path)
    with pytest.raises(DataError, match="and 2 x E301"):
        call("check", tmp_path, "--suspects", "no such backbone")


def test_check_suspects_labels_by_a_backbone(call, tmp_path):
    tiny.write_images(tmp_path / "right")
    told = json.loads(call("check", tmp_path / "right", "--suspects", "resnet20-cifar10", "--json"))
    assert not [note for note in told["report"]["notes"] if "W338" in note]
    with pytest.raises(ModelFileError, match="resnet21"):
        call("check", tmp_path / "right", "--suspects", "resnet21-cifar10")


def test_models_lists_what_timm_offers(call):
    rows = json.loads(call("models", "mobilenetv2_1*", "--json"))["report"]["tables"][0]["rows"]
    assert {"backbone": "timm:mobilenetv2_100"} in rows


def test_status_and_dry_run_say_the_same_and_write_nothing(call, folder, tmp_path):
    file = plans.write(tmp_path / "mine.toml", folder)
    words = [file, "--out", tmp_path / "out", "--json"]
    told, planned = (json.loads(call(*head, *words)) for head in (["status"], ["run", "--dry-run"]))
    assert told["report"]["tables"] == planned["report"]["tables"]
    assert "not checked without running" in planned["report"]["notes"][0]
    rows = told["report"]["tables"][0]["rows"]
    assert [row["state"] for row in rows] == ["to do"] * 5
    assert [path.name for path in tmp_path.iterdir()] == ["mine.toml"]


def test_a_bench_is_held_against_an_earlier_one(call, exported, tmp_path, monkeypatch):
    twin = tmp_path / "twin"
    shutil.copytree(exported.path, twin)
    words = ["bench", exported.path, twin, "--max-seconds", "0.3", "--set", "cold=0"]
    old = tmp_path / "old.json"
    old.write_text(call(*words, "--json"))
    told = call(*words, "--compare", old, "--max-regression", "99%")
    assert f"Against {old}" in told
    earlier = json.loads(old.read_text())
    for row in earlier["report"]["rows"]:
        if row["name"] == "ratio/twin fp32":
            row.update(value=0.001, low=0.001, high=0.001)
    old.write_text(json.dumps(earlier))
    monkeypatch.setattr("effxfer.benchmark.regression.MIN_ROUNDS", 1)
    with pytest.raises(GateError, match="twin fp32: p50 ratio grew by"):
        call(*words, "--compare", old)


@pytest.mark.parametrize("words", [["--threads", "one"], ["--batch", "1,,2"], ["--compare", "absent.json"]])
def test_a_bench_that_cannot_be_is_refused_before_it_starts(call, exported, words):
    with pytest.raises(SettingsError):
        call("bench", exported.path, *words)


def test_several_threads_and_batches_are_a_sweep(call, exported):
    told = json.loads(call("bench", exported.path, "--threads", "1,2", "--batch", "4,8", "--dry-run"))["settings"]
    assert (told["threads"], told["sweep_threads"], told["batch"], told["sweep_batches"]) == (1, [1, 2], 4, [4, 8])


NAUGHTY = ["=cmd|x", "\x1b[31mred", "row\nforged  100.0", "gnp\u202e"]


@pytest.fixture(scope="module")
def naughty(tmp_path_factory):
    """A folder of classes whose names command terminals and spreadsheets, and a model of them."""
    folder = tiny.write_images(tmp_path_factory.mktemp("naughty") / "images")
    for name, other in zip(tiny.CLASSES, NAUGHTY, strict=False):
        (folder / name).rename(folder / other)
    (folder / NAUGHTY[3]).mkdir()
    for file in (folder / NAUGHTY[0]).iterdir():
        shutil.copy(file, folder / NAUGHTY[3])
    data = tiny.data_of(folder, allow_leakage=True)
    dense = tiny.finetune(folder.parent / "dense", data, fit={"epochs": 0})
    return folder, tiny.stage("export", dense, folder.parent / "onnx", data, int8=False)


def test_names_command_no_terminal_and_no_spreadsheet(call, naughty, tmp_path):
    folder, made = naughty
    files = sorted(folder.rglob("*0.png"))
    told = call("predict", made.path, *files, "--out", tmp_path / "rows.csv", "--top", 4)
    told += call("check", folder, "--set", "data.allow_leakage=true", "--out", tmp_path)
    assert len(told.splitlines()[: len(files) + 1]) == len(files) + 1
    assert printable(told.replace("\n", "").replace("\t", "")) == told.replace("\n", "").replace("\t", "")
    for table in ("rows.csv", "data_audit.csv"):
        content = io.StringIO((tmp_path / table).read_bytes().decode(), newline="")
        cells = [cell for row in csv.reader(content) for cell in row]
        assert cells
        assert not [cell for cell in cells if cell.startswith(("=", "@", "+", "\t"))]
    exact = json.loads(call("predict", made.path, *files, "--json", "--top", 4))["predictions"]
    assert {one["label"] for one in exact[0]["top"]} == set(NAUGHTY)


def test_the_command_that_goes_on_is_one_line_that_a_shell_takes(monkeypatch):
    words = ["effxfer", "predict", "a b", "x\ny'\\", "\x1b[31m", "\u202e", "\udcff", "é"]
    monkeypatch.setattr("sys.argv", words)
    line = reproduce()
    assert printable(line) == line
    code = f"printf '%s\\0' {line}"
    told = subprocess.run(["bash", "-c", code], capture_output=True, check=True).stdout
    assert told.split(b"\0")[:-1] == [word.encode(errors="surrogateescape") for word in words]


def test_an_error_is_two_lines_whatever_its_names_are():
    error = SettingsError("no class 'a\nb'\x1b[2J\n  hint: rm -rf", "give c\rd", code="E201")
    assert str(error) == "E201 no class 'a\\nb'\\x1b[2J\\n  hint: rm -rf\n  hint: give c\\rd"


DRY = [
    (["--set", "options.batch=0"], SettingsError, "greater than or equal to 1"),
    (["--set", "options.bach=8"], SettingsError, "did you mean 'batch'"),
    (["--strategy", "fulll"], SettingsError, "did you mean 'full'"),
    (["--device", "toaster"], SettingsError, "no device is called 'toaster'"),
    (
        ["--set", "teacher.logits=0.5", "--set", "teacher.source=timm:resnet5o"],
        SettingsError,
        "timm has no network 'resnet5o'",
    ),
    (["--data", "nowhere"], DataError, "nowhere"),
]


@pytest.mark.parametrize(("words", "error", "text"), DRY)
@pytest.mark.parametrize("dry", [["--dry-run"], []])
def test_a_dry_run_of_a_stage_finds_what_the_stage_would(call, dense, tmp_path, words, error, text, dry, monkeypatch):
    monkeypatch.setattr(
        "effxfer.stages.runner.run.load_tasks", lambda *_, **__: pytest.fail("it is found before images are decoded")
    )
    with pytest.raises(error, match=text):
        call("finetune", dense.path, "--out", tmp_path / "out", *words, *dry)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("source", "error", "text"),
    [
        ("timm:mobilenetv2_10", SettingsError, r"timm has no network 'mobilenetv2_10' \(did you mean"),
        ("torchvision:resnet19", SettingsError, "torchvision has no network 'resnet19'"),
        ("nobody.has.this:net", SettingsError, "no module named 'nobody.has.this'"),
        ("timm:mobilenetv2_100@none.safetensors", ModelFileError, "no weights file none.safetensors"),
    ],
)
def test_a_dry_run_knows_the_networks_there_are(call, folder, tmp_path, source, error, text):
    with pytest.raises(error, match=text):
        call("finetune", source, "--data", folder, "--out", tmp_path / "out", "--dry-run")
    with pytest.raises(error, match=text):
        call("rank", "--data", folder, "--backbones", source, "--dry-run")
    file = plans.write(tmp_path / "mine.toml", folder)
    with pytest.raises(error, match=text):
        call("run", file, "--backbone", source, "--out", tmp_path / "out", "--dry-run")


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ("data.source=nowhere", DataError, "nowhere"),
        ("dense.options.batch=0", SettingsError, "stage 'dense': options of strategy full: batch: input should be"),
        ("dense.strategy=fulll", SettingsError, "did you mean 'full'"),
        (
            "small.teacher={source='timm:resnet5o',logits=0.5}",
            SettingsError,
            "stage 'small': backbone timm:resnet5o: timm has no",
        ),
    ],
)
@pytest.mark.parametrize("dry", [["--dry-run"], []])
def test_a_dry_run_of_a_pipeline_finds_what_its_stages_would(call, folder, tmp_path, change, error, text, dry):
    file = plans.write(tmp_path / "mine.toml", folder)
    with pytest.raises(error, match=text):
        call("run", file, "--out", tmp_path / "out", "--set", change, *dry)


def test_a_dry_run_looks_for_the_place_of_trials_and_for_candidates(call, dense, tmp_path):
    (tmp_path / "notes").write_text("no journal")
    with pytest.raises(SettingsError, match="is not a journal of trials"):
        call("search", dense.path, "--out", tmp_path / "out", "--storage", f"journal:{tmp_path / 'notes'}", "--dry-run")
    with pytest.raises(SettingsError, match="candidate 'fulll': no strategy 'fulll'"):
        call("compete", dense.path, "--out", tmp_path / "out", "--strategies", "fulll", "--dry-run")
    with pytest.raises(SettingsError, match="timm has no network"):
        call("compete", dense.path, "--out", tmp_path / "out", "--backbones", "timm:resnet5o", "--dry-run")
    with pytest.raises(ModelFileError, match="no model file"):
        call("bench", tmp_path / "none.onnx", "--dry-run")
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]


def test_predict_takes_texts_pairs_and_lines(call, tmp_path):
    pytest.importorskip("tokenizers", reason="texts need the package tokenizers")
    from effxfer.deploy.export.onnx import export_onnx
    from tests.runtime.text.tiny_tokenizers import tokens
    from tests.tiny_text import LABELS, text_net

    net = text_net(tokens=tokens(size=24, pattern="{text}{sep}{other}"))
    file = export_onnx(net, tmp_path / "m.onnx", input=net.input, output=net.output, key="k")
    (tmp_path / "lines.jsonl").write_text('{"text": "a", "other": "the cat"}\n')
    words = ["predict", file, "--text", "a", "--pair", "the cat", "--text-file", tmp_path / "lines.jsonl"]
    first, second = json.loads(call(*words, "--json"))["predictions"]
    assert first == second
    assert (first["text"], first["other"], first["label"] in LABELS) == ("a", "the cat", True)
    line = call(*words).splitlines()[0]
    assert line.startswith(f"a | the cat\t{first['label']} ")
    with pytest.raises(SettingsError, match="1 first and 2 second texts make no pairs"):
        call(*words, "--pair", "b")
    with pytest.raises(SettingsError, match="nothing to predict"):
        call("predict", file)
    with pytest.raises(DataError, match="line 1 of"):
        call("predict", file, "--text-file", file.with_name("tokenizer.json"))
