"""Train a WordPiece tokenizer on texts (Schuster & Nakajima, 2012; BERT, https://arxiv.org/abs/1810.04805)."""

import string
import unicodedata
from collections import Counter
from collections.abc import Iterable

from effxfer.errors import missing_package
from effxfer.runtime.text.pretrained import BERT, build_wordpiece

CONTINUES = "##"
MIN_FREQUENCY = 2  # a word that occurs once teaches its token nothing
# Chosen: letters, digits and marks of a language; of scripts with thousands of signs the frequent ones.
ALPHABET = 1000
SPECIAL = tuple(BERT.values())


def train_wordpiece(texts: Iterable[str], vocabulary: int, *, lowercase: bool = True) -> bytes:
    """Train a tokenizer.

    The library numbers characters within words in the order of a hash table, which differs from run to run, and breaks
    ties between equally frequent pairs by these numbers. Here they are numbered before it begins.

    Args:
        texts: Training texts.
        vocabulary: Most tokens, with five special ones; fewer if the texts have fewer parts that occur twice. Every
            character is a token, alone and within words, also beyond that number.
        lowercase: Whether texts are put in lower case and lose their accents.

    Returns:
        Content of `tokenizer.json`; equal for equal texts.

    Raises:
        ResourceError: If the package `tokenizers` is not installed.
    """
    try:
        from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    except ImportError:
        raise missing_package("tokenizers", "text", "texts") from None
    library = Tokenizer(models.WordPiece(unk_token=BERT["unk_token"]))
    library.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    texts = list(texts)
    alphabet = _alphabet(library.normalizer.normalize_str(text) for text in texts)
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary, min_frequency=MIN_FREQUENCY, initial_alphabet=alphabet, limit_alphabet=len(alphabet),
        special_tokens=[*SPECIAL, *(CONTINUES + sign for sign in alphabet if _is_inside_words(sign))],
        continuing_subword_prefix=CONTINUES, show_progress=False,
    )  # fmt: skip
    library.train_from_iterator(texts, trainer)
    ids = library.get_vocab()
    return build_wordpiece("\n".join(sorted(ids, key=ids.__getitem__)).encode(), {"do_lower_case": lowercase})


def _alphabet(texts: Iterable[str]) -> list[str]:
    """Return the most frequent characters but blanks, sorted; of equally frequent ones the first by their code."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    signs = [sign for sign in counts if not sign.isspace()]
    return sorted(sorted(signs, key=lambda sign: (-counts[sign], sign))[:ALPHABET])


def _is_inside_words(sign: str) -> bool:
    """Whether a character may continue a word; BERT's pre-tokenizer makes a word of each punctuation mark."""
    return sign not in string.punctuation and not unicodedata.category(sign).startswith("P")
