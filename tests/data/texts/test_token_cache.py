import numpy as np
import pytest

from effxfer.data.texts import token_cache
from effxfer.data.texts.examples import Answer, Example
from effxfer.data.texts.token_cache import TokenPlan, tokenize
from effxfer.errors import DataError
from effxfer.runtime.text.pattern import PAIR
from effxfer.runtime.text.tokens import Tokens
from tests.runtime.text.tiny_tokenizers import WHOLE_WORDS, tokens


def texts(*sources, split: str = "train") -> list[Example]:
    return [Example(source, "x", f"{split}:{i}", split) for i, source in enumerate(sources, 1)]


TEXTS = [*texts("a cat", "the mat", "a b c d e f"), *texts("b", split="val"), *texts("c d", split="unlabelled")]


def same(first, second):
    assert [row.tolist() for row in first.rows] == [row.tolist() for row in second.rows]
    assert first.groups.tolist() == second.groups.tolist()
    assert first.cut == second.cut
    for name in ("spans", "words"):
        one, two = getattr(first, name), getattr(second, name)
        assert (one is None) == (two is None)
        assert one is None or one.tolist() == two.tolist()


@pytest.mark.parametrize("chunk", [1, 2, 1000])
@pytest.mark.parametrize("spans", [False, True])
@pytest.mark.parametrize("options", [{"size": 5}, {"size": 5, "stride": 1}])
def test_rows_are_those_of_the_tokenizer(tmp_path, monkeypatch, chunk, spans, options):
    monkeypatch.setattr(token_cache, "CHUNK", chunk)
    encoded = tokenize(TokenPlan(TEXTS, tokens(**options), spans), tmp_path)
    assert encoded.keys() == {"train", "val", "unlabelled"}
    for split, result in encoded.items():
        sources = [example.source for example in TEXTS if example.split == split]
        same(result, tokens(**options).encode(sources, spans=spans))


@pytest.mark.parametrize("examples", [texts(["a", "cats"], [], ["the"]), texts(("a", "b"), ("", "c"))])
def test_words_and_pairs_are_tokenized(tmp_path, monkeypatch, examples):
    monkeypatch.setattr(token_cache, "CHUNK", 2)
    options = {} if isinstance(examples[0].source, list) else {"pattern": PAIR}
    result = tokenize(TokenPlan(examples, tokens(**options)), tmp_path)["train"]
    same(result, tokens(**options).encode([example.source for example in examples]))


def test_texts_are_tokenized_once_and_mapped_from_then_on(tmp_path, monkeypatch):
    first = tokenize(TokenPlan(TEXTS, tokens()), tmp_path)["train"]
    monkeypatch.setattr(Tokens, "encode", lambda *_args, **_options: pytest.fail("tokenized twice"))
    second = tokenize(TokenPlan(TEXTS, tokens()), tmp_path)["train"]
    same(first, second)
    assert isinstance(second.rows.values.base, np.memmap)
    assert not second.rows.values.flags.writeable


def test_labels_do_not_change_the_key_and_all_else_does(monkeypatch):
    plan = TokenPlan(TEXTS, tokens())
    assert plan.key() == TokenPlan([e._replace(label="y", name="z") for e in TEXTS], tokens()).key()
    others = [
        TokenPlan(TEXTS[::-1], tokens()), TokenPlan(TEXTS[1:], tokens()), TokenPlan(TEXTS, tokens(5)),
        TokenPlan(TEXTS, tokens(stride=1)), TokenPlan(TEXTS, tokens(), spans=True),
        TokenPlan(TEXTS, Tokens(tokenizer=WHOLE_WORDS, size=16, pad=0)),
        TokenPlan([e._replace(split="val") for e in TEXTS], tokens()),
        TokenPlan([e._replace(source=e.source.split()) for e in TEXTS], tokens()),
    ]  # fmt: skip
    keys = {other.key() for other in others}
    monkeypatch.setattr(token_cache, "version", lambda _name: "0.0")
    assert len(keys | {plan.key()}) == len(others) + 1
    assert TokenPlan(texts("a b", "c"), tokens()).key() != TokenPlan(texts("a", "bc"), tokens()).key()


def test_another_version_of_the_library_tokenizes_again(monkeypatch):
    before = TokenPlan(TEXTS, tokens()).key()
    monkeypatch.setattr(token_cache, "version", lambda _name: "0.0")
    assert TokenPlan(TEXTS, tokens()).key() != before


def test_a_text_that_cannot_be_tokenized_is_named(tmp_path):
    with pytest.raises(DataError, match="train:2: a text holds half of a character") as caught:
        tokenize(TokenPlan(texts("a", "\ud800", "b"), tokens()), tmp_path)
    assert caught.value.code == "E350"
    with pytest.raises(DataError, match="train:1: a list among texts"):
        tokenize(TokenPlan(texts("a", ["b"]), tokens()), tmp_path)
    assert not list(tmp_path.glob("tokens/*/arrays"))


def test_an_entry_of_other_texts_does_not_fit(tmp_path):
    entry = token_cache.open_or_build(tmp_path / "k", 1000, TokenPlan(TEXTS, tokens()).build)
    assert TokenPlan(TEXTS, tokens()).fits(entry)
    for examples in (TEXTS[1:], TEXTS[:3], texts("a")):
        assert not TokenPlan(examples, tokens()).fits(entry)


def test_the_estimate_of_space_is_above_what_is_taken(tmp_path):
    for plan in (TokenPlan(TEXTS, tokens()), TokenPlan(TEXTS, tokens(5, stride=1), spans=True)):
        entry = token_cache.open_or_build(tmp_path / plan.key(), 1000, plan.build)
        assert plan.bytes_needed() >= sum(array.nbytes for array in entry.arrays.values())


def test_progress_counts_the_texts(tmp_path):
    calls = []
    tokenize(TokenPlan(TEXTS, tokens(), progress=lambda *call: calls.append(call)), tmp_path)
    assert calls == [(3, 5), (4, 5), (5, 5)]


def test_a_text_without_a_split_is_refused():
    with pytest.raises(ValueError, match="a has no split"):
        TokenPlan([Example("x", "y", "a")], tokens()).key()


def test_answers_keep_their_places(tmp_path):
    examples = [Example(("the cat", "a mat"), (Answer(2, "mat"),), "q", "train")]
    result = tokenize(TokenPlan(examples, tokens(pattern=PAIR), spans=True), tmp_path)["train"]
    assert result.answer_places([(2, 5)]).tolist() == [[5, 5]]
