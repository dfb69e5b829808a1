import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from effxfer.runtime.__main__ import main
from effxfer.runtime.model import Model, ModelError
from effxfer.runtime.outputs.multi_label import MultiLabel
from effxfer.runtime.outputs.regression import Regression
from effxfer.runtime.predict import predict_files
from effxfer.runtime.text.errors import TextError
from tests.runtime.text.tiny_tokenizers import WHOLE_WORDS, tokens
from tests.tiny_net import images

pytest.importorskip("tokenizers", reason="texts need the package tokenizers")
from effxfer.deploy.export.onnx import export_onnx
from tests.tiny_text import LABELS, TEXTS, text_net, texts

FORBIDDEN = ("torch", "transformers", "PIL", "pydantic", "onnx", "typer", "rich", "huggingface_hub")


@pytest.fixture(scope="module")
def model(text_file):
    return Model(text_file, threads=1)


@torch.inference_mode()
def alone(net, text):
    """What torch gives for one text, by itself."""
    return net(torch.from_numpy(net.input.decode(text).astype(np.int64)[None]))[0].numpy()


@pytest.mark.parametrize("batch", [1, 3, 32])
def test_texts_are_answered_in_their_order_as_torch_answers_each_alone(model, batch):
    net, many = text_net(), [*TEXTS, *texts(60)]
    expected = np.array([alone(net, text) for text in many])
    rows = model.input.encode(many).rows
    np.testing.assert_allclose(model.logits(rows, batch=batch), expected, atol=1e-5)
    predictions = model.predict(iter(many), batch=batch, top=3)
    assert [p.label for p in predictions] == [LABELS[i] for i in expected.argmax(1)]
    np.testing.assert_allclose(
        [sorted(p for _, p in each.top) for each in predictions], np.sort(net.output.to_answers(expected), 1), atol=1e-5
    )
    assert model.predict([]) == []
    assert model.logits(rows[:0]).shape == (0, 3)


def test_strings_files_and_bytes_give_the_same(model, tmp_path):
    (tmp_path / "a.txt").write_text(TEXTS[4])
    predictions = model.predict([TEXTS[4], tmp_path / "a.txt", TEXTS[4].encode()])
    assert predictions == [predictions[0]] * 3
    with pytest.raises(TextError, match="an array is not a text"):
        model.predict([images(1)[0]])
    with pytest.raises(TextError, match="takes one text, not 2"):
        model.predict([("a", "b")])


def test_pairs(tmp_path):
    net = text_net(tokens=tokens(size=24, pattern="{text}{sep}{other}"))
    file = export_onnx(net, tmp_path / "pair.onnx", input=net.input, output=net.output, key="k")
    pairs = [("the cat", "sat"), ("sat", "the cat"), ("a", "")]
    expected = net.output.to_answers(np.array([alone(net, pair) for pair in pairs]))
    predictions = Model(file).predict(pairs)
    assert [p.probability for p in predictions] == pytest.approx(expected.max(1), abs=1e-5)
    assert abs(predictions[0].probability - predictions[1].probability) > 1e-3
    rows = predict_files(file, texts=[list(pair) for pair in pairs])
    assert [(row["text"], row["other"], row["label"]) for row in rows] == [
        (*pair, p.label) for pair, p in zip(pairs, predictions, strict=True)
    ]
    (tmp_path / "pairs.tsv").write_text("the cat\tsat\n")
    assert predict_files(file, text_file=tmp_path / "pairs.tsv") == rows[:1]


@pytest.mark.parametrize(
    "output",
    [
        MultiLabel(classes=LABELS, thresholds=(0.5, -0.5, 0.25)),
        Regression(classes=LABELS, mean=(1000.0, 0.0, -3.0), deviation=(250.0, 1.0, 0.01)),
    ],
    ids=lambda output: output.kind,
)
def test_thresholds_and_values_are_those_of_training(output, tmp_path):
    net, many = text_net(output), texts(40)
    file = export_onnx(net, tmp_path / "m.onnx", input=net.input, output=output, key="k")
    raw, rows = np.array([alone(net, text) for text in many]), predict_files(file, texts=many, top=3)
    if isinstance(output, Regression):
        values = [[row["values"][name] for name in LABELS] for row in rows]
        np.testing.assert_allclose(values, output.values(raw), rtol=1e-5, atol=1e-5 * max(output.deviation))
        with pytest.raises(ModelError, match="gives values, not probabilities"):
            Model(file).probabilities(many)
        return
    applies = [[name in {each["label"] for each in row["labels"]} for name in LABELS] for row in rows]
    assert applies == output.decide(raw).tolist()
    shares = [[{each["label"]: each["probability"] for each in row["top"]}[name] for name in LABELS] for row in rows]
    np.testing.assert_allclose(shares, 1 / (1 + np.exp(-raw)), atol=1e-5)


def test_a_text_that_was_cut_says_so_and_a_bad_one_does_not_stop_the_others(text_file, tmp_path):
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    rows = predict_files(text_file, [tmp_path / "latin.txt"], texts=["a", "the cat " * 50])
    assert rows[0]["error"].startswith("E350 not UTF-8 text")
    assert [row.get("cut") for row in rows] == [None, None, True]
    assert [row.get("label") in LABELS for row in rows] == [False, True, True]


def test_texts_and_images_are_not_mixed_up(text_file, file):
    with pytest.raises(ModelError, match="takes images, not texts") as caught:
        predict_files(file, texts=["a"])
    assert caught.value.code == "E428"
    with pytest.raises(ModelError, match="takes texts, not images"):
        Model(text_file).pixels(images(1)[0])


def test_the_tokenizer_of_another_model_is_refused(text_file, tmp_path):
    (tmp_path / "model.onnx").write_bytes(text_file.read_bytes())
    with pytest.raises(ModelError) as caught:
        Model(tmp_path / "model.onnx")
    assert caught.value.code == "E441"
    (tmp_path / "tokenizer.json").write_bytes(WHOLE_WORDS)
    with pytest.raises(ModelError) as caught:
        Model(tmp_path / "model.onnx")
    assert caught.value.code == "E446"
    assert main([str(tmp_path / "model.onnx"), "--text", "a"]) == 4


def test_texts_need_neither_torch_nor_pillow(text_file, tmp_path):
    script = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {FORBIDDEN!r}:
            raise ImportError(name + " is not here")
sys.meta_path.insert(0, Blocked())
from effxfer.runtime.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
    (tmp_path / "lines.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    words = [sys.executable, "-c", script, text_file, "--text", "a \n ü", "--text-file", tmp_path / "lines.jsonl"]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(words, capture_output=True, check=True, text=True, env=environment)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert rows == predict_files(text_file, texts=["a \n ü", *TEXTS])


@pytest.mark.parametrize("words", [[], ["--text", "a", "--text", "b", "--pair", "c"]])
def test_the_command_names_what_is_missing(text_file, words, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([str(text_file), *words])
    assert "--text" in capsys.readouterr().err


def test_the_command_names_a_line_that_is_no_text(text_file, tmp_path, capsys):
    (tmp_path / "lines.txt").write_text("[]\n")
    assert main([str(text_file), "--text-file", str(tmp_path / "lines.txt"), "--json"]) == 3
    assert capsys.readouterr().err.startswith("E350 line 1 of")
