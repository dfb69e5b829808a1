"""Read the tokenizer of an encoder's folder, and check that it belongs to the network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from effxfer.errors import ModelFileError
from effxfer.net.text.folder_files import read_optional
from effxfer.runtime.text.pretrained import read_tokens
from effxfer.runtime.text.tokens import TextError, Tokens

# Tables are padded to a multiple of 64 or 128, or have rows for tokens to come: 1 % of the small ones.
SPARE_ROWS = 0.1
HINT = "take the tokenizer that the network was trained with"


def network_tokens(folder: Path, arguments: Mapping[str, Any], size: int) -> Tokens:
    """Read a folder's tokenizer for texts of at most `size` tokens.

    Args:
        folder: As `read_tokens` takes it.
        arguments: `vocabulary` and `pad` of `Encoder`.
        size: Most tokens of a text.

    Raises:
        ModelFileError: If it is absent, damaged or in another form (E441, E442, E444, E445), has ids beyond the
            vocabulary (E443), or pads with another id (E436).
    """
    try:
        tokens = read_tokens(folder, size)
        tokens.require_fit(arguments["vocabulary"])
    except TextError as error:
        raise ModelFileError(f"{folder}: {error.problem}", error.hint, code=error.code) from None
    if tokens.pad != arguments["pad"]:
        text = f"{folder}: the tokenizer pads with {tokens.pad}, the network with {arguments['pad']}"
        raise ModelFileError(text, HINT, code="E436")
    return tokens


def note_unused_rows(tokens: Tokens, vocabulary: int, folder: Path) -> tuple[str, ...]:
    """Return a note (`W443`) if many rows of the table of embeddings belong to no token.

    Args:
        tokens: The tokenizer.
        vocabulary: Rows of the table.
        folder: For the note.
    """
    loaded = tokens.loaded
    unused = vocabulary - len({*loaded.tokens.values(), *loaded.template.ids, tokens.pad})
    if unused <= SPARE_ROWS * vocabulary:
        return ()
    text = f"W443 {folder.name}: {unused} of {vocabulary} rows of the table of embeddings belong to no token"
    return (f"{text}; check that the tokenizer is that of these weights",)


def separator_of(tokens: Tokens, folder: Path) -> int:
    """Return the id that a tokenizer puts behind the first text of a pair, or behind a single one.

    Raises:
        ModelFileError: `E436`, if there is none.
    """
    template = tokens.loaded.template
    behind = template.pair[1] or template.single[1]
    if not behind:
        text = f"{folder}: the tokenizer puts no separator behind a text, and the network has segments"
        raise ModelFileError(text, HINT, code="E436")
    return behind[-1]


def stated_length(folder: Path) -> int:
    """Return the tokens that `tokenizer_config.json` allows a text; 0 is no limit."""
    length = read_optional(folder / "tokenizer_config.json").get("model_max_length")
    return length if type(length) is int and 0 < length < 2**20 else 0  # 1e30 says that there is no limit
