import pytest

from effxfer.data.settings import DataSettings
from effxfer.data.texts.conll import read_conll
from effxfer.data.texts.examples import Example
from effxfer.data.texts.text_source import read_texts

TEXT = """-DOCSTART- -X- -X- O

U.N. NNP I-NP B-ORG
official NN I-NP O

Ekeus NNP I-NP B-PER
. . O O
"""


def read(tmp_path, content: str, **options):
    (tmp_path / "t.conll").write_text(content, encoding="utf-8")
    return read_conll(tmp_path / "t.conll", DataSettings(source="t.conll", **options))


def test_sentences_end_with_an_empty_line(tmp_path):
    listing = read(tmp_path, TEXT)
    assert listing.examples == [
        Example(["U.N.", "official"], ("B-ORG", "O"), "t.conll:3"),
        Example(["Ekeus", "."], ("B-PER", "O"), "t.conll:6"),
    ]
    assert listing.findings == []


def test_sentences_of_several_documents_know_theirs(tmp_path):
    assert [example.document for example in read(tmp_path, TEXT + "\n" + TEXT).examples] == [
        "t.conll 1", "t.conll 1", "t.conll 2", "t.conll 2",
    ]  # fmt: skip


def test_columns_are_chosen_and_separated_by_tabs_or_blanks(tmp_path):
    first = read(tmp_path, TEXT, tag_column=1).examples[0]
    assert first.label == ("NNP", "NN")
    listing = read(tmp_path, "1\tNew York\tB-LOC\n2\tis\tO\n", word_column=1, tag_column=2)
    assert listing.examples[0].source == ["New York", "is"]


def test_a_blank_of_unicode_belongs_to_its_word(tmp_path):
    (example,) = read(tmp_path, "10\u00a0000  CD  B-X \n\u3000a O\n").examples
    assert (example.source, example.label) == (["10\u00a0000", "a"], ("B-X", "O"))


def test_the_files_of_conll_2003_are_read_with_their_oddities(tmp_path):
    """A byte order mark, line ends of Windows, four columns, IOB1, a document at the end, no last empty line."""
    lines = ["-DOCSTART- -X- -X- O", "", "U.N. NNP I-NP I-ORG", "Rome NNP I-NP I-LOC", "Oslo NNP I-NP B-LOC", "", "   ",
             "-DOCSTART- -X- -X- O", "", "it PRP I-NP O"]  # fmt: skip
    for name in ("eng.train", "eng.testa", "eng.testb"):
        text = "\r\n".join(lines).replace("Oslo", f"Oslo{name[-1]}")
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
    listing = read_texts(DataSettings(source=str(tmp_path), labels="tags"))
    assert [(e.source[-1], e.label, e.split) for e in listing.examples if len(e.source) > 1] == [
        (f"Oslo{name}", ("I-ORG", "I-LOC", "B-LOC"), split)
        for name, split in (("a", "val"), ("b", "test"), ("n", "train"))
    ]
    assert {e.document for e in listing.examples if e.split == "train"} == {"eng.train 1", "eng.train 2"}


def test_comments_are_left_out_but_a_number_sign_is_a_word(tmp_path):
    listing = read(tmp_path, "# sent_id = 1\n# text = a # b\na O\n# O\n#x O\n")
    assert listing.examples[0].source == ["a", "#", "#x"]


@pytest.mark.parametrize("line", ["alone", "\t\tx", "a\t"])
def test_a_line_without_a_word_or_a_tag_spoils_its_sentence_only(tmp_path, line):
    content = f"a O\n{line}\n\nb O\n"
    listing = read(tmp_path, content)
    assert [(f.code, f.severity, f.path) for f in listing.findings] == [("E351", "error", "t.conll:2")]
    assert [example.source for example in listing.examples] == [["b"]]
    assert read(tmp_path, content, skip_bad=True).findings[0].severity == "warning"


def test_a_column_that_is_not_there_is_named(tmp_path):
    assert read(tmp_path, "a b\n", tag_column=5).findings[0].text == "2 columns, without a word or a tag"


def test_tags_that_begin_an_entity_with_i_are_noted(tmp_path):
    (note,) = read(tmp_path, "a I-PER\nb I-PER\nc I-LOC\nd B-LOC\ne I-LOC\n\nf I-PER\n").findings
    assert (note.code, note.severity) == ("W351", "note")
    assert note.text == "3 tags I- begin an entity, beside 1 tags B-: read as beginnings"


def test_an_empty_file_has_no_example(tmp_path):
    assert read(tmp_path, "\n\n-DOCSTART-\n") == ([], [])
