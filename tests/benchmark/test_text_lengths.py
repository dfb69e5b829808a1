import json
import shutil

import numpy as np
import pytest

from effxfer.benchmark.protocol.runners import feed_for, torch_input, unit_of
from effxfer.benchmark.sweep import sweep
from effxfer.benchmark.text_lengths import stated_lengths, time_long_texts
from effxfer.deploy.export.onnx import export_onnx
from effxfer.errors import ModelFileError
from effxfer.stages.deliver.bench import measure
from effxfer.stages.settings.common import Bench
from tests.benchmark.models import photo
from tests.runtime.text.tiny_tokenizers import WHOLE_WORDS

pytest.importorskip("tokenizers", reason="texts need the package tokenizers")
from tests.tiny_text import SIZE, TOKENS, text_net

QUICK = {"max_seconds": 0.2, "precision": 0.5, "threads": 1}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    net = text_net()
    extra = {"lengths": json.dumps([9, 23])}
    target = tmp_path_factory.mktemp("text") / "m.onnx"
    return export_onnx(net, target, input=net.input, output=net.output, key="k", extra=extra)


def test_ids_are_tokens_of_the_files_own_tokenizer_at_its_median_length(file):
    ids = feed_for(file, batch=3)["ids"]
    assert (ids.shape, ids.dtype) == ((3, 9), np.int64)
    special = {TOKENS.loaded.tokens[name] for name in ("[PAD]", "[MASK]")}
    assert not special & set(ids.ravel().tolist())
    assert set(ids.ravel().tolist()) <= set(TOKENS.loaded.tokens.values())
    assert (ids[:, 0].tolist(), ids[:, -1].tolist()) == ([2] * 3, [3] * 3)
    assert not np.array_equal(ids[0], ids[1])
    np.testing.assert_array_equal(feed_for(file, batch=3)["ids"], ids)


def test_a_length_may_be_asked_for_up_to_the_most_tokens(file):
    assert feed_for(file, size=17)["ids"].shape == (1, 17)
    assert feed_for(file, size=500)["ids"].shape == (1, SIZE)


def test_the_torch_module_gets_the_ids_as_they_are(file):
    feed = feed_for(file)
    assert torch_input(feed).dtype == np.int64
    assert (unit_of(feed), unit_of({"images": feed["ids"]})) == ("texts", "images")


@pytest.mark.parametrize(("content", "code"), [(None, "E441"), (WHOLE_WORDS, "E446")])
def test_without_its_tokenizer_nothing_is_timed(file, tmp_path, content, code):
    shutil.copy(file, tmp_path / "m.onnx")
    if content:
        (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(ModelFileError) as caught:
        feed_for(tmp_path / "m.onnx")
    assert caught.value.code == code


def test_long_texts_are_timed_beside_the_median_ones(file):
    assert stated_lengths(file) == (9, 23)
    report = measure({"a": file, "b": file}, Bench(cold=0, **QUICK))
    assert report["length/p50/a/23 tokens"].value > 0
    assert report["length/ratio/a/23 tokens"].value == 1
    table = next(table for table in report.tables if table.title == "Long texts")
    assert [(row["model"], row["tokens"]) for row in table.rows] == [("a", 23), ("b", 23)]
    assert "texts/s" in report.tables[0].rows[0]
    assert [note for note in report.notes if "9 tokens" in note]


def test_images_and_files_without_lengths_have_no_long_texts(tmp_path):
    options = {"baseline": "a", "batch": 1, "threads": 1, "precision": 0.5, "max_seconds": 0.1}
    assert time_long_texts({"a": photo(tmp_path / "m.onnx")}, **options).rows == ()


def test_a_sweep_counts_texts(file):
    report = sweep({"a": file}, baseline="a", threads=(1,), batches=(2,), precision=0.5, max_seconds=0.2, memory=False)
    assert {"ms per text", "texts/s"} <= report.tables[0].rows[0].keys()
