import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tokenizers", reason="texts need the package tokenizers")

from effxfer.errors import ModelFileError
from effxfer.prune.vocabulary.tokenizer import prune_tokenizer
from effxfer.runtime.text.tokens import Tokens
from tests.runtime.text.tiny_tokenizers import WHOLE_WORDS, WORDPIECE, added, byte_level, document, unigram

LETTERS = "abcd ."
TEXTS = st.text(alphabet=LETTERS, max_size=24)


def trained_bpe(**options) -> bytes:
    """A BPE of characters, with a suffix at the end of words as CLIP has it, or with bytes for unknown characters."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    library = Tokenizer(models.BPE(unk_token="<unk>", **options))
    library.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = ["<pad>", "<unk>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256) if options.get("byte_fallback"))]
    suffix = options.get("end_of_word_suffix")
    more = {"end_of_word_suffix": suffix} if suffix else {}
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=special[:3], show_progress=False, **more)
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice([*"abcd."], int(n))) for n in rng.integers(1, 9, 3000)]
    library.train_from_iterator([" ".join(words)], trainer)
    if options.get("byte_fallback"):
        raw = json.loads(library.to_str())
        first = len(raw["model"]["vocab"])
        raw["model"]["vocab"] |= {name: first + place for place, name in enumerate(special[3:])}
        return json.dumps(raw).encode()
    return library.to_str().encode()


def trained_unigram() -> bytes:
    """Pieces of one to four letters with random scores; one character has no piece of its own."""
    rng = np.random.default_rng(1)
    words = {"".join(rng.choice([*"abcd."], int(n))) for n in rng.integers(2, 5, 120)}
    pieces = [["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0], *([letter, -9.0] for letter in "abc.▁")]
    pieces += [[word, float(-rng.uniform(2, 14))] for word in sorted(words)]
    raw = json.loads(unigram())
    return json.dumps({**raw, "normalizer": None, "model": {**raw["model"], "vocab": pieces}}).encode()


def trained_wordpiece() -> bytes:
    """Random words and parts of words of the letters, with their single characters."""
    rng = np.random.default_rng(2)
    parts = sorted({"".join(rng.choice([*"abcd"], int(n))) for n in rng.integers(2, 5, 120)})
    words = ["[PAD]", "[unused]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *parts, *(f"##{part}" for part in parts[::2])]
    words += [*"abcd.", *(f"##{letter}" for letter in "abcd")]
    raw = json.loads(WORDPIECE)
    special = [added(token, words.index(token)) for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")]
    processor = {**raw["post_processor"]}
    text = json.dumps(processor)
    for token in ("[CLS]", "[SEP]"):
        old, new = (raw["model"]["vocab"][token], words.index(token))
        text = text.replace(f'"ids": [{old}]', f'"ids": [{new}]').replace(f'["{token}", {old}]', f'["{token}", {new}]')
    model = {**raw["model"], "vocab": {word: place for place, word in enumerate(words)}}
    return document(WORDPIECE, added_tokens=special, post_processor=json.loads(text), model=model)


CONTENTS = {
    "bpe of bytes": byte_level(),
    "bpe with a suffix": trained_bpe(end_of_word_suffix="</w>"),
    "bpe with bytes for the unknown": trained_bpe(byte_fallback=True),
    "unigram": trained_unigram(),
    "wordpiece": trained_wordpiece(),
}


def tokens_of(content: bytes, pad: int = 0) -> Tokens:
    return Tokens(tokenizer=content, size=200, pad=pad)


def names(tokens: Tokens, text: str) -> list[str]:
    words = {number: token for token, number in tokens.loaded.tokens.items()}
    return [words[int(number)] for number in tokens.decode(text)]


@pytest.mark.parametrize("kind", CONTENTS)
@settings(max_examples=25, deadline=None)
@given(train=st.lists(TEXTS, max_size=4), more=st.lists(TEXTS, min_size=1, max_size=6))
def test_texts_whose_tokens_all_stay_are_encoded_as_before(kind, train, more):
    before = tokens_of(CONTENTS[kind])
    used = {int(number) for text in train for number in before.decode(text)}
    pruned = prune_tokenizer(before.tokenizer, used)
    after = tokens_of(pruned.content, pruned.new_id(0))
    assert len(pruned.ids) <= len(before.loaded.tokens)
    remaining = {*pruned.ids.tolist()}
    for text in (*train, *more):
        row = before.decode(text)
        if {*row.tolist()} <= remaining:
            np.testing.assert_array_equal(pruned.ids[after.decode(text)], row)


@pytest.mark.parametrize("kind", CONTENTS)
@settings(max_examples=25, deadline=None)
@given(text=st.text(max_size=20))
def test_any_text_that_could_be_written_still_can_be(kind, text):
    before = tokens_of(CONTENTS[kind])
    pruned = prune_tokenizer(before.tokenizer, ())
    after = tokens_of(pruned.content, pruned.new_id(0))
    unknown = before.loaded.unknown

    def known(tokens: Tokens) -> bool:
        return tokens.loaded.unknown is None or tokens.loaded.unknown not in tokens.decode(text).tolist()

    assert unknown is None or pruned.ids[after.loaded.unknown] == unknown
    # A character that only longer pieces hold is unknown by itself.
    if known(before) and not {*text} - {*"abc. "}:
        assert known(after)


@pytest.mark.parametrize("kind", CONTENTS)
def test_ids_follow_each_other_and_special_tokens_keep_their_places_in_the_template(kind):
    before = tokens_of(CONTENTS[kind])
    pruned = prune_tokenizer(before.tokenizer, ())
    after = tokens_of(pruned.content, pruned.new_id(0))
    assert sorted(after.loaded.tokens.values()) == [*range(len(pruned.ids))]
    assert len(pruned.ids) < len(before.loaded.tokens)
    for token, number in after.loaded.tokens.items():
        assert before.loaded.tokens[token] == pruned.ids[number]
    assert {*after.loaded.special} == {*before.loaded.special}
    for new, old in zip(after.loaded.template.pair, before.loaded.template.pair, strict=True):
        assert tuple(pruned.ids[list(new)]) == old
    assert names(after, "") == names(before, "")
    again = prune_tokenizer(pruned.content, range(len(pruned.ids)))
    assert again.content == pruned.content


def test_every_token_that_is_used_stays_and_no_other_word():
    before = tokens_of(WORDPIECE)
    pruned = prune_tokenizer(WORDPIECE, {before.loaded.tokens["great"]})
    kept = json.loads(pruned.content)["model"]["vocab"]
    assert {"great", "[PAD]", "[UNK]", "a", "##s", "."} <= kept.keys()
    assert not {"the", "cat", "##ing"} & kept.keys()
    with pytest.raises(KeyError):
        pruned.new_id(before.loaded.tokens["cat"])


def test_whole_words_are_refused_by_name():
    with pytest.raises(ModelFileError, match="kind WordLevel") as caught:
        prune_tokenizer(WHOLE_WORDS, ())
    assert caught.value.code == "E447"
