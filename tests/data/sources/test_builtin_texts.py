from collections import Counter

import pytest

from effxfer.data.load import scan
from effxfer.data.settings import DataSettings
from effxfer.data.sources.builtin_texts import BUILTIN_TEXTS, read_builtin_texts
from effxfer.data.texts.examples import content_key
from effxfer.data.texts.modality import holds_texts
from effxfer.errors import DataError

CLASSES = ("cancel", "defect", "delivery", "invoice", "login", "refund")


@pytest.mark.parametrize("name", BUILTIN_TEXTS)
def test_each_class_is_in_each_split_and_no_text_in_two(name):
    examples = read_builtin_texts(name)
    counts = Counter((example.split, example.label) for example in examples)
    assert {label for _, label in counts} == set(CLASSES)
    assert min(counts[split, label] for split in ("train", "val", "test") for label in CLASSES) >= 20
    assert len({content_key(example) for example in examples}) == len(examples)
    assert not [example.source for example in examples if "{" in example.source]


def test_it_is_listed_without_errors_and_has_its_own_splits():
    listing = scan(DataSettings(source="requests"))
    assert listing.classes == CLASSES
    assert listing.unit == "texts"
    assert not [finding for finding in listing.findings if finding.severity == "error"]


def test_without_labels_its_texts_are_the_same():
    alone, labelled = (scan(DataSettings(source="requests", labels=labels)) for labels in ("none", "single"))
    assert alone.classes == ()
    assert list(alone.texts.values()) == list(labelled.texts.values())


def test_a_file_of_its_name_goes_first(tmp_path):
    assert holds_texts(DataSettings(source="requests"))
    (tmp_path / "requests").mkdir()
    assert not holds_texts(DataSettings(source="requests"), tmp_path)


def test_other_kinds_of_label_are_refused():
    with pytest.raises(DataError, match="built in and has one class for each text") as caught:
        scan(DataSettings(source="requests", labels="multi"))
    assert caught.value.code == "E344"
