"""Read text files line by line, with their numbers and within limits."""

from collections.abc import Iterator
from pathlib import Path

from effxfer.data.sources.text_bytes import decoding_error, require_text, text_lines
from effxfer.errors import DataError
from effxfer.runtime.reading import TooLargeError, read_regular
from effxfer.runtime.text.tokens import LONGEST_TEXT

# As for tables: as Python objects, texts take several times their bytes.
MAX_BYTES = 256_000_000
CODE = "E350"
ENCODING_HINT = "save it as UTF-8 text, or set `encoding`: older files are often latin-1 or cp1252"


def read_bytes(file: Path, encoding: str = "utf-8", limit: int = MAX_BYTES) -> bytes:
    """Read a file that must be text.

    Raises:
        DataError: `E310` if it does not exist, `E350` if it cannot be text or be read, `E352` if it is too large.
    """
    try:
        data = read_regular(file, limit)
    except FileNotFoundError:
        raise DataError(f"no file {file}", "give a file of texts", code="E310") from None
    except TooLargeError as error:
        raise DataError(f"{file}: {error.strerror} for a file of texts", "split it", code="E352") from None
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}", code=CODE) from None
    require_text(data, file, CODE, encoding)
    return data


def numbered_lines(file: Path, encoding: str = "utf-8") -> Iterator[tuple[int, str]]:
    """Yield the number and the text of each line, without line ends and a byte order mark.

    Lines end with a line feed, a carriage return or both; other separators of Unicode belong to the text.

    Raises:
        DataError: `E310`, `E350` or `E352` with the line: absent, not text in this encoding, or too long.
    """
    data = read_bytes(file, encoding)
    try:
        for number, line in enumerate(text_lines(data, encoding, None), 1):
            if len(line) > LONGEST_TEXT:
                text = f"{file} line {number} has {len(line)} characters, {LONGEST_TEXT} at most"
                raise DataError(text, "cut it into several texts", code="E352")
            yield number, line.removesuffix("\n")
    except UnicodeDecodeError:
        raise decoding_error(data, file, CODE, encoding, ENCODING_HINT) from None
