import numpy as np
import pytest

import effxfer
from effxfer.errors import DataError, SettingsError
from effxfer.runtime.class_tables.class_table import read_class_table
from effxfer.stages.data.class_names import embed_class_names
from effxfer.train.devices import pick_device

CPU = pick_device("cpu")
NAMES = ["cat", "polar_bear", "truck"]


@pytest.fixture(scope="module")
def embedded():
    return embed_class_names(NAMES, "text-small", ["{}"], CPU)


def test_names_are_read_as_words_of_length_one(embedded):
    assert embedded.names == tuple(NAMES)
    assert np.allclose(np.linalg.norm(embedded.values, axis=1), 1, atol=1e-5)
    written = embed_class_names(["cat", "polar bear"], "text-small", ["{}"], CPU)
    assert np.allclose(written.values, embedded.values[:2], atol=1e-6)


def test_prompts_are_averaged(embedded):
    prompts = ["{}", "a photo of a {}"]
    each = [embed_class_names(NAMES, "text-small", [prompt], CPU).values for prompt in prompts]
    mean = (each[0] + each[1]) / 2
    both = embed_class_names(NAMES, "text-small", prompts, CPU).values
    assert np.allclose(both, mean / np.linalg.norm(mean, axis=1, keepdims=True), atol=1e-5)
    assert not np.allclose(both, embedded.values, atol=1e-2)


@pytest.mark.parametrize(
    ("names", "encoder", "prompts", "error", "words"),
    [
        (NAMES, "text-small", ["photo"], SettingsError, "prompt 'photo' has no {}"),
        (NAMES, "resnet20-cifar10", ["{}"], SettingsError, "takes images, not texts"),
        (["cat", "Cat"], "text-small", ["{}"], DataError, "differ in case alone"),
        (["cat"], "absent.txt", ["{}"], DataError, "absent.txt cannot be read"),
    ],
)
def test_what_cannot_be_embedded_is_said(names, encoder, prompts, error, words):
    with pytest.raises(error, match=words):
        embed_class_names(names, encoder, prompts, CPU)


def test_a_table_is_read_as_it_was_written(tmp_path, embedded, call):
    out = tmp_path / "classes.csv"
    assert "classes" in call("embed", *NAMES, "--encoder", "text-small", "--out", out)
    table = read_class_table(out)
    assert table.names == embedded.names
    assert np.array_equal(table.values, embedded.values)
    (tmp_path / "glove.txt").write_text("cat 1 2\ntruck 3 4\n")
    made = effxfer.embed_classes(["truck"], str(tmp_path / "glove.txt"), out=tmp_path / "words.csv")
    assert made.path.read_text() == "class,0,1\ntruck,3,4\n"
    for classes, file, words in ((["a"], "table.txt", "no .csv file"), ([], "t.csv", "no class")):
        with pytest.raises(SettingsError, match=words):
            effxfer.embed_classes(classes, "text-small", out=tmp_path / file)
