import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import onnx
import pytest
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from effxfer.deploy.bundle.bundle import write_bundle
from effxfer.deploy.bundle.card import Origin, markdown
from effxfer.deploy.bundle.page import WEB as WEB_FOLDER
from effxfer.deploy.bundle.page import Page
from effxfer.deploy.bundle.runtime_copy import PACKAGE, RUNTIME
from effxfer.deploy.bundle.web_library import ORT_WEB, TOKENIZERS_WEB, WebFiles
from effxfer.deploy.export.onnx import export_onnx, load, read_metadata, write_metadata
from effxfer.deploy.export.preprocessing import add_preprocessing
from effxfer.files import sha256
from effxfer.report import Measurement, Report, Table
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.runtime.model import Model
from effxfer.runtime.outputs.multi_label import MultiLabel
from effxfer.runtime.outputs.regression import Regression
from effxfer.runtime.outputs.single_label import SingleLabel
from tests.data import corpus
from tests.tiny_net import CLASSES, PREPROCESS

WEB = Page(libraries=(WebFiles(library=ORT_WEB, version="9.8.7", files=dict.fromkeys(ORT_WEB.files, b"x")),))
ACCURACY = Report(
    rows=(
        Measurement(name="accuracy/val/fp32", value=91.239, unit="%", of="images", n=400),
        Measurement(name="accuracy/val/torch", value=91.2, unit="%", of="images", n=400),
        Measurement(name="parity/batch1", value=1e-6),
    )
)
SPEED = Report(
    tables=(
        Table(title="Models", rows=({"model": "model.onnx", "p50 ms": 4.5678, "empty": None},)),
        Table(title="Machine", rows=({"fact": "cpu", "found": "Some CPU"},)),
    ),
    notes=("noise: none",),
)
ORIGIN = Origin(title='My "shapes": 1', backbone="timm:x", backbone_license="apache-2.0", data="shapes")


def bundled(file, out, origin=ORIGIN):
    return write_bundle(out / "bundle", [file], origin=origin, accuracy=ACCURACY, speed=SPEED, page=WEB)


@pytest.fixture
def bundle(exported, tmp_path):
    return bundled(exported, tmp_path)


def test_it_holds_all_that_the_card_names(bundle, exported):
    card = (bundle / "README.md").read_text(encoding="utf-8")
    for name in ("model.onnx", "labels.txt", "model.json", "example.py", "index.html"):
        assert (bundle / name).is_file()
        assert f"`{name}`" in card
    assert (bundle / "model.onnx").read_bytes() == exported.read_bytes()
    assert {file.name for file in (bundle / "ort").iterdir()} == set(ORT_WEB.files)
    assert (bundle / "labels.txt").read_text(encoding="utf-8").splitlines() == list(CLASSES)


def test_the_card_has_metadata_that_hugging_face_reads(bundle):
    card = ModelCard((bundle / "README.md").read_text(encoding="utf-8"))
    assert card.data.license == "apache-2.0"
    assert card.data.pipeline_tag == "image-classification"
    facts = card.data.to_dict()
    assert (facts["backbone_license"], facts["data_license"], facts["data"]) == ("apache-2.0", "unknown", "shapes")
    (result,) = card.data.eval_results
    assert (result.metric_value, result.dataset_split) == (91.24, "val")
    for text in ("91.24 % of images (n=400)", "4.568", "Some CPU", "noise: none", "## Limits", "9.8.7"):
        assert text in card.text
    assert "licence of the data is unknown" in card.text
    assert "licence of the backbone is unknown" not in card.text
    assert "parity" not in card.text


@pytest.mark.parametrize(("licence", "warned"), [("cc-by-nc-4.0", True), ("mit", False), ("CC_BY_NC_SA", True)])
def test_licences_against_commerce_are_pointed_out(exported, tmp_path, licence, warned):
    origin = Origin(title="a", backbone="b", backbone_license=licence, data="c", data_license="mit")
    card = (bundled(exported, tmp_path, origin) / "README.md").read_text(encoding="utf-8")
    assert ("does not allow commercial use" in card) == warned


def test_nothing_names_a_folder_of_this_machine(bundle, tmp_path):
    for file in (file for file in bundle.rglob("*") if file.is_file()):
        assert str(tmp_path).encode() not in file.read_bytes()


def shrunk(exported, out):
    """The exported file with another crop: preprocessing that a copy of it would easily get wrong."""
    about = Preprocess(size=PREPROCESS.size, mean=PREPROCESS.mean, std=PREPROCESS.std, crop_pct=0.8)
    model = load(exported)
    write_metadata(model, replace(read_metadata(exported), input=about))
    onnx.save(model, out)
    return out


@pytest.fixture
def resizing(net, tmp_path):
    file = export_onnx(net, tmp_path / "model.onnx", input=PREPROCESS, classes=CLASSES, key="k")
    add_preprocessing(file)
    return file


def odd_images(folder):
    """Write an image of every kind that the runtime reads: transparency, 16 bits, CMYK, palettes, EXIF, animations."""
    for kind in corpus.IMAGES:
        if not kind.error:
            (folder / kind.name).write_bytes(kind.make())
    return sorted(file for file in folder.iterdir() if file.is_file())


def in_bundle(bundle, *arguments, code=0):
    variables = {
        name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "ORT_DISABLE_TELEMETRY"}
    }
    done = subprocess.run(
        [sys.executable, *arguments], cwd=bundle, env=variables, capture_output=True, text=True, encoding="utf-8",
        timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done


SHARES = """
import json, os, sys
from effxfer_runtime.model import Model
model = Model("model.onnx", threads=1)
shares = [model.probabilities([name])[0].tolist() for name in sys.argv[1:]]
strange = {"effxfer", "torch", "onnx"} & set(sys.modules)
assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
print(json.dumps([shares, sorted(strange)]))
"""


@pytest.mark.parametrize("kind", ["plain", "resizing"])
def test_the_bundle_answers_as_the_runtime_does_on_every_kind_of_image(exported, resizing, tmp_path, kind):
    file = shrunk(exported, tmp_path / "model.onnx") if kind == "plain" else resizing
    bundle, photos = bundled(file, tmp_path), tmp_path / "photos"
    photos.mkdir()
    names, model = odd_images(photos), Model(file, threads=1)
    assert len(names) > 10
    shares, strange = json.loads(in_bundle(bundle, "-c", SHARES, *names).stdout)
    assert shares == [model.probabilities([name])[0].tolist() for name in names]
    assert strange == [], "it needs nothing but onnxruntime, numpy and pillow"
    said = in_bundle(bundle, "example.py", *names).stdout.splitlines()
    assert said == [one.label for one in model.predict(names)]
    assert json.loads((bundle / "model.json").read_text())["models"][0]["resizes"] == (kind == "resizing")


def test_the_example_names_what_is_no_image(bundle, tmp_path):
    file = tmp_path / "words.jpg"
    file.write_text("no image")
    done = in_bundle(bundle, "example.py", file, code=1)
    assert "words.jpg: E301 not an image" in done.stderr
    assert "Traceback" not in done.stderr


def test_names_of_others_add_nothing_to_the_card(exported, tmp_path):
    bad = "<b>|`[x](http://evil.example)\n# h"
    model = load(exported)
    write_metadata(model, replace(read_metadata(exported), output=SingleLabel(classes=(bad, *CLASSES[1:]))))
    onnx.save(model, tmp_path / "model.onnx")
    origin = Origin(title=bad, backbone=bad, backbone_license=bad, data=bad, data_license=bad)
    speed = replace(SPEED, tables=(Table(title="Models", rows=({"model": bad, "p50 ms": 1.0},)),), notes=(bad,))
    out = tmp_path / "bundle"
    write_bundle(out, [tmp_path / "model.onnx"], origin=origin, accuracy=ACCURACY, speed=speed, page=WEB)
    text = (out / "README.md").read_text(encoding="utf-8").partition("\n---\n")[2]
    plain = (bundled(exported, tmp_path / "plain") / "README.md").read_text(encoding="utf-8").partition("\n---\n")[2]
    parser = MarkdownIt("commonmark").enable("table")

    def kinds(text):
        tokens = parser.parse(text)
        return {token.type for token in tokens} | {c.type for token in tokens for c in token.children or ()}

    assert kinds(text) - {"text_special"} == kinds(plain) - {"text_special"}
    assert "link_open" not in kinds(text)
    assert sum(token.type == "heading_open" for token in parser.parse(text)) == 6
    card = ModelCard((out / "README.md").read_text(encoding="utf-8"))
    assert (card.data.license, card.data.to_dict()["data"]) == (bad, bad)


def test_every_file_of_the_runtime_is_there_and_knows_no_other_package(bundle):
    copies = sorted((bundle / PACKAGE).rglob("*.py"))
    assert [c.relative_to(bundle / PACKAGE) for c in copies] == [
        file.relative_to(RUNTIME) for file in sorted(RUNTIME.rglob("*.py"))
    ]
    for file in copies:
        words = file.read_text(encoding="utf-8").replace(PACKAGE, "").split()
        assert [b for a, b in pairwise(words) if a in ("from", "import") and b.split(".")[0] == "effxfer"] == []


def test_a_list_of_digests_covers_all_files(bundle):
    listed = dict(reversed(line.split("  ", 1)) for line in (bundle / "SHA256SUMS").read_text().splitlines())
    files = [file for file in bundle.rglob("*") if file.is_file() and file.name != "SHA256SUMS"]
    assert listed == {file.relative_to(bundle).as_posix(): sha256(file) for file in files}


def test_labels_are_exact(exported, tmp_path):
    labels, model = ["a\nb", "c\\nd", "\u2028 é <b>", "", 'x,y|\x0b"z"'], load(exported)
    about = replace(read_metadata(exported), output=SingleLabel(classes=tuple(labels[: len(CLASSES)])))
    write_metadata(model, about)
    onnx.save(model, tmp_path / "model.onnx")
    bundle = bundled(tmp_path / "model.onnx", tmp_path)
    assert json.loads((bundle / "model.json").read_bytes())["labels"] == labels[: len(CLASSES)]
    lines = (bundle / "labels.txt").read_bytes().decode().removesuffix("\n").split("\n")
    assert lines == ["a\\nb", *labels[1 : len(CLASSES)]]


def test_the_page_asks_no_other_place(bundle):
    for name in ("index.html", "app.js", "images.js", "outputs.js", "preprocess.js"):
        assert "://" not in (bundle / name).read_text(encoding="utf-8")


@pytest.mark.skipif(shutil.which("node") is None, reason="no node here")
def test_scripts_are_well_formed(tmp_path):
    for name in ("app.js", "images.js", "outputs.js", "preprocess.js", "texts.js", "tokens.js"):
        module = tmp_path / name.replace(".js", ".mjs")
        shutil.copyfile(WEB_FOLDER / name, module)
        subprocess.run(["node", "--check", module], check=True, capture_output=True)


def test_empty_columns_are_left_out_and_bars_do_not_break_cells():
    table = Table(title="", rows=({"a": "x|y", "b": None, "c": 0.123456},))
    assert markdown(table) == "| a | c |\n| --- | --- |\n| x\\|y | 0.1235 |"


def with_output(file, out, output):
    """A copy of an exported file that gives another kind of answer."""
    model = load(file)
    write_metadata(model, replace(read_metadata(file), output=output))
    onnx.save(model, out)
    return out


def test_a_bundle_of_several_labels_names_thresholds_and_says_which_apply(exported, tmp_path):
    output = MultiLabel(classes=CLASSES, thresholds=(-50.0, 50.0, *(0.0,) * (len(CLASSES) - 2)))
    out = write_bundle(
        tmp_path / "bundle", [with_output(exported, tmp_path / "model.onnx", output)], origin=ORIGIN, speed=SPEED,
        page=WEB, accuracy=Report(
            rows=(
                Measurement(name="mAP/val/fp32", value=81.5, unit="%", of="images", n=400),
                Measurement(name="macro F1/val/fp32", value=77.25, unit="%", of="images", n=400),
            )
        ),
    )  # fmt: skip
    card = ModelCard((out / "README.md").read_text(encoding="utf-8"))
    assert card.data.pipeline_tag == "image-classification"
    assert "multi-label" in card.data.tags
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value) == ("map", 81.5)
    for text in (
        "macro F1/val/fp32: 77.25 %",
        f"| {CLASSES[1]} | 1 |",
        "its sigmoid is the probability",
        "None may apply",
    ):
        assert text in card.text
    assert "Classifies" not in card.text
    assert json.loads((out / "model.json").read_text())["output"]["thresholds"][:2] == [-50.0, 50.0]
    (said,) = in_bundle(out, "example.py", odd_image(tmp_path)).stdout.splitlines()
    assert CLASSES[0] in said.split(", ")
    assert CLASSES[1] not in said.split(", ")


def test_a_bundle_of_values_names_their_unit_and_says_numbers(exported, tmp_path):
    names = tuple(f"{name} in mm" for name in CLASSES)
    numbers = {"mean": (10.0,) * len(names), "deviation": (2.5,) * len(names)}
    file = with_output(exported, tmp_path / "model.onnx", Regression(classes=names, **numbers))
    accuracy = Report(
        rows=(
            Measurement(name="R2/val/fp32", value=91.0, unit="%", of="images", n=400),
            Measurement(name=f"mean absolute error {names[0]}/val/fp32", value=0.75, of="images", n=400),
        )
    )
    out = write_bundle(tmp_path / "bundle", [file], origin=ORIGIN, accuracy=accuracy, speed=SPEED, page=WEB)
    card = ModelCard((out / "README.md").read_text(encoding="utf-8"))
    assert card.data.pipeline_tag == "other"
    assert "regression" in card.data.tags
    for text in (
        f"{names[0]}/val/fp32: 0.75",
        f"| {names[0]} | 10 | 2.5 |",
        "standardised",
        "The R2 is that on shapes",
    ):
        assert text in card.text
    assert "classes" not in card.text.partition("## Limits")[2]
    image = odd_image(tmp_path)
    (said,) = in_bundle(out, "example.py", image).stdout.splitlines()
    values = Model(file).predict([image])[0].values
    assert said == ", ".join(f"{name} {value:.6g}" for name, value in values.items())


def odd_image(folder):
    (folder / "photos").mkdir()
    return odd_images(folder / "photos")[0]


TEXT_RUN = """
import sys
from effxfer_runtime.model import Model
print(Model("model.onnx", threads=1).predict(sys.argv[1:])[0].label)
print(sorted({"effxfer", "torch", "onnx", "PIL", "transformers"} & set(sys.modules)))
"""


def test_a_bundle_of_texts_needs_neither_torch_nor_pillow(text_file, tmp_path):
    page = Page(note="There is no web page: reasons")
    out = write_bundle(tmp_path / "bundle", [text_file], origin=ORIGIN, accuracy=Report(), speed=SPEED, page=page)
    label, strange = in_bundle(out, "-c", TEXT_RUN, "the cat sat").stdout.splitlines()
    assert label == Model(text_file).predict(["the cat sat"])[0].label
    assert strange == "[]"
    assert in_bundle(out, "example.py", "the cat sat").stdout.splitlines() == [label]
    card = ModelCard((out / "README.md").read_text(encoding="utf-8"))
    assert card.data.pipeline_tag == "text-classification"
    for text in ("tokenizer.json", "There is no web page: reasons.", "at most 40 of them", "--no-deps tokenizers"):
        assert text in card.text
    for word in ("image", "pixel", "photo", "index.html", "browser:"):
        assert word not in card.text, word
    assert not (out / "index.html").exists()
    assert "onnxruntime-web" not in card.data.tags


def test_a_bundle_of_texts_with_a_page_has_the_tokenizer_and_what_its_patterns_mean(text_file, tmp_path):
    tokenizers = WebFiles(library=TOKENIZERS_WEB, version="0.2.0", files={"tokenizers.min.mjs": b"x", "LICENSE": b"y"})
    page = Page(libraries=(*WEB.libraries, tokenizers))
    out = write_bundle(tmp_path / "bundle", [text_file], origin=ORIGIN, accuracy=ACCURACY, speed=SPEED, page=page)
    assert (out / "tokenizer.json").read_bytes() == (text_file.parent / "tokenizer.json").read_bytes()
    assert (out / "tokenizers" / "LICENSE").read_bytes() == b"y"
    facts = json.loads((out / "model.json").read_text())["tokens"]
    assert (facts["size"], facts["chunks"]) == (40, [{"pieces": ["text"], "names": ["text"]}])
    index = (out / "index.html").read_text()
    assert '<textarea id="text"' in index
    assert 'type="file"' not in index
    assert not (out / "images.js").exists()
