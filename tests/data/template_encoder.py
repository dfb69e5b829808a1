"""A small random encoder whose tokenizer cuts the names of `templates` into pieces."""

import unicodedata
from pathlib import Path

from tests.data.templates import PEOPLE, PLACES

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PLAIN = tuple(
    """
    flew from to the mayor of met and who lives in retired yesterday it rained saw where was
    . , ? '
    """.split()  # noqa: SIM905 (words are read as a text)
)


def fold(text: str) -> str:
    """Lower case without accents, as BERT's normalizer gives it."""
    return "".join(c for c in unicodedata.normalize("NFD", text.lower()) if not unicodedata.combining(c))


def vocabulary() -> list[str]:
    """Special tokens, the words of the templates, letters, and pieces of three letters of names."""
    words = sorted({word for name in (*PEOPLE, *PLACES) for word in fold(name).replace("'", " ").split()})
    letters = sorted({letter for word in words for letter in word})
    chunks = [word[start : start + 3] for word in words for start in range(0, len(word), 3)]
    pieces = [*letters, *chunks]
    every = [*SPECIAL, *PLAIN, *pieces, *(f"##{piece}" for piece in pieces)]
    return list(dict.fromkeys(every))


def write_encoder(folder: Path, width: int = 64, layers: int = 2) -> Path:
    """Write `config.json`, random weights and `vocab.txt`."""
    import torch
    import transformers

    tokens = vocabulary()
    config = transformers.BertConfig(
        vocab_size=len(tokens), hidden_size=width, num_hidden_layers=layers, num_attention_heads=4,
        intermediate_size=2 * width, max_position_embeddings=128,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(tokens))
    return folder
