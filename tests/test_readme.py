"""Every command of the README and of the guide runs, in its order, on little data and for a short time."""

import ast
import json
import re
import shlex
import shutil
from inspect import signature
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from typer.main import get_command
from typer.testing import CliRunner

import effxfer
from effxfer.cli.app import app
from effxfer.data.settings import DataSettings
from effxfer.runtime.__main__ import main as classify
from effxfer.settings import build
from tests import tiny
from tests.contracts.test_pipelines import SHORT
from tests.data.templates import write_joint
from tests.transfer.zero_shot.attributes import write_files

HOUSE = Path(__file__).parents[1]
README = HOUSE / "README.md"
GUIDES = {file.stem: file for file in sorted((HOUSE / "guide").glob("*.md"))}
PAGES = [README, *(HOUSE / name for name in ("CHANGELOG.md", "CONTRIBUTING.md")), *GUIDES.values()]
PAGES += sorted((HOUSE / "docs").glob("*.md"))
AFTER_COMMANDS = ("heads", "deploy")  # they go on with what the commands page made
TOURS = {"commands": tuple(GUIDES[name] for name in ("commands", *AFTER_COMMANDS))} | {
    name: (file,)
    for name, file in GUIDES.items()
    if name not in ("commands", *AFTER_COMMANDS) and "\n$ effxfer" in file.read_text()
}
PHOTOS = [one for one in SHORT if not one.startswith("backbone.")] + ["backbone.size=32", "ticket.rounds=1"]
QUICKER = {
    "run demo_text": [
        word
        for change in (
            "data.max_per_class=10",
            "dense.fit.epochs=1",
            "dense-onnx.latency_seconds=0.2",
            'dense-onnx.recipes=["dynamic-table"]',
            "bench.max_seconds=0.5",
            "bench.precision=0.5",
            "bench.cold=0",
        )
        for word in ("--set", change)
    ],
    "run demo": [word for one in SHORT if "pretrained" not in one for word in ("--set", one)],
    "run photos": [
        *("--backbone", "timm:mobilenetv2_035@weights.safetensors"),
        *(word for one in PHOTOS for word in ("--set", one)),
    ],
    "finetune resnet20-cifar10 --data digits --set size=16 --epochs 0": [],
    "finetune text-small --data assistant": ["--epochs", "1", "--set", 'options.controls="none"'],
    "finetune effxfer.net.conv4:conv4": ["--epochs", "1", "--set", "options.episodes=3"],
    "finetune": ["--epochs", "2", "--set", "data.max_per_class=10"],
    "clip": ["--epochs", "1", "--set", "shuffles=0", "--set", "data.max_per_class=20"],
    "export runs/both": ["--set", "int8=false", "--set", "data.max_per_class=20"],
    "continual resnet20": ["--epochs", "1", "--set", "size=16", "--controls", "fast"],
    "continual": ["--epochs", "1", "--controls", "fast"],
    "compete": ["--set", "data.max_per_class=10", "--set", "fit.epochs=2", "--set", "size=16"],
    "curve": ["--epochs", "1", "--labels", "1", "--set", "data.max_per_class=5", "--set", "min_steps=2"],
    "shrink": [
        *("--latency-ratio", "0.9", "--precision", "float32", "--epochs", "1", "--set", "kinds=['exit']"),
        *("--set", "timing_seconds=0.2"),
    ],
    "pretrain effxfer.net.text.encoder:Encoder": [
        *("--epochs", "1"),
        *(
            word
            for one in ("vocabulary=200", "width=32", "heads=2", "layers=1")
            for word in ("--set", f"backbone.args.{one}")
        ),
    ],
    "prune": ["--epochs", "1"],
    "qat": ["--set", "data.max_per_class=10"],
    "search": ["--trials", "3", "--set", "epochs=3", "--set", "latency=false"],
    "ticket apply": ["--epochs", "1", "--set", "data.max_per_class=5"],
    "rank": ["--set", "images=60", "--set", "max_seconds=0.5", "--set", "size=16"],
    "doctor runs": ["--max-seconds", "0.5"],
    "bench": ["--max-regression", "99%", "--max-seconds", "0.5", "--max-p50-ratio", "100", "--set", "cold=1"],
}


def shown(*files):
    """What the files show at a prompt, without comments."""
    return [
        line for file in files for line in re.findall(r"^\$ (.*?)(?:\s+#.*)?$", file.read_text(), flags=re.MULTILINE)
    ]


def commands(*files):
    """The commands of effxfer among that, without its name and those on data of the reader's own."""
    ours = [line.removeprefix("effxfer ") for line in shown(*files) if line.startswith("effxfer ")]
    return [command for command in ours if "my/photos" not in command and "runs/mine" not in command]


def quicker(command: str) -> list[str]:
    extra = next((words for start, words in QUICKER.items() if command.startswith(start)), [])
    return [*shlex.split(command), *extra]


def run(command, monkeypatch):
    command, _, kept = command.partition(" > ")
    words = quicker(command)
    monkeypatch.setattr("sys.argv", ["effxfer", *words])
    done = CliRunner().invoke(app, words)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, f"{command}: {done.output}"
    if kept:
        Path(kept).write_text(done.stdout)
    return done.stdout


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_is_shown():
    known = {command.callback.__name__ for command in app.registered_commands}
    assert {one.split()[0] for one in commands(README, *GUIDES.values())} == known | {
        group.name for group in app.registered_groups
    }


def test_every_guide_is_named_and_every_link_leads_somewhere():
    linked = {(page, target) for page in PAGES for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text())}
    assert not [target for page, target in linked if not (page.parent / target).exists()]
    assert {f"guide/{name}.md" for name in GUIDES} <= {target for page, target in linked if page == README}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(HOUSE)))
def test_no_cell_of_a_table_is_longer_than_120_characters(page):
    rows = [line for line in page.read_text().splitlines() if line.startswith("|")]
    cells = [cell.strip() for row in rows for cell in re.split(r"(?<!\\)\|", row)]
    assert [cell for cell in cells if len(cell) > 120] == []


def sentences(text):
    """The sentences of a page's paragraphs and lists, without code, tables and headings; inline code is one word."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^(#|\||\[[^\]]+\]:).*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"`[^`]*`|\]\([^)]*\)", "x", text)
    paragraphs = re.split(r"\n\s*\n|\n(?=\s*(?:-|\d+\.) )", text)
    return [one.split() for paragraph in paragraphs for one in re.split(r"(?<=[.:;!?])\s", paragraph)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(HOUSE)))
def test_no_sentence_has_more_than_30_words(page):
    assert [" ".join(words) for words in sentences(page.read_text()) if len(words) > 30] == []


def test_a_sentence_ends_at_a_full_stop_or_a_list():
    text = "# Title\n\nOne `two three`, four.\nFive\nsix:\n\n- seven\n- [eight](nine.md)\n\n```\nten\n```\n"
    assert [len(words) for words in sentences(text) if words] == [3, 2, 2, 2]


def test_the_readme_is_short():
    assert len(README.read_text().splitlines()) <= 150


def test_the_picture_of_the_report_page_is_small():
    assert (HOUSE / "docs" / "report-page.png").stat().st_size < 150_000


class Understood(Exception):  # noqa: N818
    """A command came as far as its stage."""


@pytest.mark.parametrize("page", [README, *GUIDES.values()], ids=lambda page: page.stem)
def test_its_commands_are_understood(page, monkeypatch):
    """Words and settings of each command are checked, and nothing is opened; the slow tours run them."""

    def stop(_job):
        raise Understood

    # The networks and tickets that pages name are results of commands before.
    monkeypatch.setattr("effxfer.api.job.origin_of", lambda source, backbone: source)
    monkeypatch.setattr(
        "effxfer.api.job.data_for", lambda origin, table: [build(DataSettings, {**given, **table}, "data")]
    )
    monkeypatch.setattr("effxfer.api.job.Job.run", stop)
    group, given = get_command(app), {"source": "digits"}
    for command in commands(page):
        words = shlex.split(command.partition(" > ")[0])
        with group.make_context("effxfer", list(words)) as context:
            name, found, rest = group.resolve_command(context, [*context._protected_args, *context.args])
            parsed = found.make_context(name, rest, parent=context)
        if "dry_run" in parsed.params and "source" in parsed.params:
            done = CliRunner().invoke(app, words)
            assert isinstance(done.exception, Understood), f"{command}: {done.output}"


@pytest.mark.slow
@pytest.mark.parametrize("tour", TOURS)
def test_its_commands_run(tour, place, monkeypatch):
    three = load_digits().images[3] * 15.9
    Image.fromarray(three.astype("uint8")).save("three.png")
    tiny.write_images(place / "mnist")
    for folder in (
        "pacs/photo",
        "pacs/sketch",
        "letters/a",
        "letters/b",
        "more-letters/c",
        "more-letters/d",
        "months/2026-03",
        "months/2026-04",
    ):
        tiny.write_images(place / folder, per_class=12, seed=len(list(place.rglob("*.png"))))
    for name in tiny.CLASSES:
        (place / "five" / name).mkdir(parents=True)
        shutil.copy("three.png", place / "five" / name)
    shutil.copy("three.png", "letter.png")
    write_files(place)
    write_joint(place / "assistant", 60)
    pairs = [
        f"{file.relative_to(place)},a {file.parts[-3]} of a {file.parts[-2]} thing,{file.parts[-2]},"
        f"{file.parts[-2]},{file.parts[-3]},{number % 7}\n"
        for number, file in enumerate(sorted((place / "pacs").glob("*/*/*")))
    ]
    Path("pairs.csv").write_text("".join(["path,caption,label,left,right,ink\n", *pairs]))
    told = commands(*TOURS[tour])
    assert told
    for command in told:
        last = run(command, monkeypatch).splitlines()[-1]
        if "--json" in command:
            continue
        assert last.startswith(f"effxfer {command.split()[0]}"), f"{command} ends in {last!r}"
    if tour == "commands":
        assert list(place.glob("runs/demo/report-*.html"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(HOUSE)))
def test_python_calls_functions_with_arguments_that_exist(page):
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for call in [node for block in blocks for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Call)]:
        if name := re.fullmatch(r"ex\.(\w+)", ast.unparse(call.func)):
            signature(getattr(effxfer, name[1])).bind(*call.args, **{word.arg: word.value for word in call.keywords})


@pytest.mark.slow
def test_the_python_of_the_guide_runs(place):
    blocks = re.findall(r"^```python\n(.*?)^```", GUIDES["python"].read_text(), flags=re.MULTILINE | re.DOTALL)
    names = {}
    exec(compile("\n".join(blocks), "guide/python.md", "exec"), names)
    assert names["again"].manifest.settings["fit"]["optimizer"] == "sgd"
    assert names["model"].labels == names["dense"].classes


def test_the_guide_lists_every_function():
    rows = GUIDES["python"].read_text().partition("## All functions")[2]
    assert set(re.findall(r"`(\w+)`", rows)) == set(effxfer.__all__)


@pytest.mark.slow
def test_its_python_on_own_data_runs(place):
    """With a narrow network, on little data; latency is replaced by a share of the multiply-adds."""
    tiny.write_images(place / "my" / "photos")
    (place / "some").mkdir()
    shutil.copy(next((place / "my" / "photos").rglob("*.jpg")), place / "some" / "photo.jpg")
    block = re.search(r"^```python\n(.*?)^```", README.read_text(), flags=re.MULTILINE | re.DOTALL)[1]
    short = {
        '"timm:mobilenetv2_100"': 'ex.load("timm:mobilenetv2_035", pretrained=False, size=32)',
        "epochs=6": "epochs=1",
        "latency_ratio=0.5": "macs_ratio=0.5, epochs=1",
        "ex.bench([onnx], ": "ex.bench([onnx], max_seconds=1, ",
    }
    for long, quick in short.items():
        assert long in block
        block = block.replace(long, quick)
    exec(compile(block, "README.md", "exec"), {})
    assert (place / "runs" / "onnx" / "model.onnx").exists()


@pytest.mark.slow
def test_its_five_lines_on_own_data_run(place, monkeypatch, capsys):
    tiny.write_images(place / "my" / "photos")
    torch.manual_seed(0)
    save_file(timm.create_model("mobilenetv2_035").state_dict(), "weights.safetensors")
    photo = next((place / "my" / "photos").rglob("*.jpg"))
    (place / "some").mkdir()
    (place / "some" / "photo.jpg").write_bytes(photo.read_bytes())
    lines = shown(README)
    own = lines[lines.index("effxfer check my/photos") :][:5]
    checked, pipeline, opened, predicted, on_device = own
    for command in (checked, pipeline):
        run(command.removeprefix("effxfer "), monkeypatch)
    assert list(place.glob(opened.removeprefix("open ")))
    said = run(predicted.removeprefix("effxfer "), monkeypatch)
    capsys.readouterr()
    assert classify(shlex.split(on_device.removeprefix("python -m effxfer.runtime "))) == 0
    assert said.split("\t")[1].split()[0] == json.loads(capsys.readouterr().out)["label"]
