import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("tokenizers")

from effxfer.data.batches.masking import IGNORED, Masking
from effxfer.errors import SettingsError
from effxfer.runtime.text.tokens import Tokens
from tests.runtime.text.tiny_tokenizers import WHOLE_WORDS, WORDS, byte_level, ids, tokens

MASK = WORDS.index("[MASK]")
LONG = "the cat sat on the mat . playing was great , the cat playing"


def batch(*texts: str) -> np.ndarray:
    return tokens(64).feed(tokens(64).encode(list(texts)).rows)


def hide(given_ids, seed=0, **options):
    masking = Masking.of(tokens(64), **options)
    return masking.hide(given_ids, np.random.default_rng(seed))


texts = st.lists(st.sampled_from([LONG, "a", "the cat", "playing", "great great great"]), min_size=1, max_size=5)


@given(texts, st.integers(0, 999), st.sampled_from([0.15, 0.3, 0.5]))
def test_targets_are_the_tokens_that_stood_there_and_others_stay(some, seed, rate):
    before = batch(*some)
    masked, targets = hide(before, seed, rate=rate)
    hidden = targets != IGNORED
    assert (targets[hidden] == before[hidden]).all()
    assert (masked[~hidden] == before[~hidden]).all()
    assert hidden.any(1).all(), "every text has a token to guess"
    special = ids("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    assert not np.isin(before[hidden], special).any()


@given(st.integers(0, 999))
def test_the_share_of_hidden_words_is_the_rate(seed):
    words = 14  # of LONG; `playing` has two tokens
    for rate in (0.15, 0.5):
        _, targets = hide(batch(LONG), seed, rate=rate)
        starts = [w for w in targets[targets != IGNORED].tolist() if not WORDS[w].startswith("##")]
        assert len(starts) == round(rate * words)


@given(st.integers(0, 999))
def test_the_tokens_of_a_word_are_hidden_together(seed):
    before = batch(LONG)
    _, targets = hide(before, seed)
    (hidden,) = targets != IGNORED
    (continues,) = np.isin(before, ids("##ing"))
    assert (hidden[continues] == hidden[np.flatnonzero(continues) - 1]).all()


def test_without_whole_words_a_part_of_one_is_hidden_alone():
    before = batch("playing")
    apart = [hide(before, seed, whole_words=False)[1] != IGNORED for seed in range(20)]
    assert {tuple(hidden[0].tolist()) for hidden in apart} == {(False, True, False, False), (False, False, True, False)}


def test_of_the_hidden_tokens_the_shares_stay_or_become_others():
    before = batch(*[LONG] * 400)
    masked, targets = hide(before, rate=0.5, keep=0.2, random=0.3)
    hidden = targets != IGNORED
    assert (masked[hidden] == MASK).mean() == pytest.approx(0.5, abs=0.03)
    # Of 27 ordinary tokens that are drawn, one in 27 is the token itself.
    assert (masked[hidden] == targets[hidden]).mean() == pytest.approx(0.2 + 0.3 / 27, abs=0.03)


def test_equal_draws_hide_equal_tokens_and_others_do_not():
    before = batch(*[LONG] * 8)
    assert all(np.array_equal(a, b) for a, b in zip(hide(before, 1), hide(before, 1), strict=True))
    assert not np.array_equal(hide(before, 1)[1], hide(before, 2)[1])


def test_a_row_without_words_has_nothing_to_guess():
    masked, targets = hide(np.array([ids("[CLS]", "[SEP]", "[PAD]")]))
    assert masked.tolist() == [ids("[CLS]", "[SEP]", "[PAD]")]
    assert (targets == IGNORED).all()


def test_byte_level_tokens_with_a_blank_begin_words():
    own = Tokens(tokenizer=byte_level(prefix=True), size=32, pad=1)
    masking = Masking.of(own, rate=0.5)
    rows = own.feed(own.encode(["the cat sat on the mat"] * 4).rows)
    _, targets = masking.hide(rows, np.random.default_rng(0))
    names = {number: token for token, number in own.loaded.tokens.items()}
    for row, target in zip(rows, targets, strict=True):
        hidden = target != IGNORED
        inside = [i for i in range(1, len(row) - 1) if not names[row[i]].startswith("Ġ")]
        assert all(hidden[i] == hidden[i - 1] for i in inside)


def test_a_tokenizer_without_a_mask_is_refused():
    with pytest.raises(SettingsError, match="the tokenizer has no mask"):
        Masking.of(Tokens(tokenizer=WHOLE_WORDS, size=8, pad=1))
