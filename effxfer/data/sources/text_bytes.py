"""Decode files of text, and explain why a file is not text."""

import io
from collections.abc import Iterator
from pathlib import Path

from effxfer.errors import DataError

SAVE = "save it as UTF-8 text (in Excel: CSV UTF-8)"
# Excel's and Word's files are zip archives.
SIGNATURES = {
    b"PK\x03\x04": "a zip or an Excel file", b"%PDF-": "a PDF file", b"\x1f\x8b": "a gzip file",
    b"\x89PNG": "an image", b"\xff\xd8\xff": "an image", b"{\\rtf": "a Rich Text file",
}  # fmt: skip
UTF16 = (b"\xff\xfe", b"\xfe\xff")


def require_text(data: bytes, file: Path, code: str, encoding: str = "utf-8") -> None:
    """Refuse bytes that cannot be text, and name their actual format.

    Args:
        data: Content of the file.
        file: Its name, for errors.
        code: Code of the error.
        encoding: Encoding that the user names; of UTF-16 text, half of the bytes may be zero.

    Raises:
        DataError: With the code.
    """
    for start, kind in SIGNATURES.items():
        if data.startswith(start):
            raise DataError(f"{file} is {kind}, not text", SAVE, code=code)
    if encoding == "utf-16":
        return
    if data.startswith(UTF16):
        raise DataError(f"{file} is UTF-16 text", SAVE, code=code)
    if (position := data.find(b"\0")) >= 0:
        line = data.count(b"\n", 0, position) + 1
        raise DataError(f"{file} holds a NUL byte in line {line}", f"it is damaged or not text; {SAVE}", code=code)


def text_lines(data: bytes, encoding: str = "utf-8", newline: str | None = "") -> Iterator[str]:
    """Yield the lines of bytes that `require_text` accepted, without a byte order mark.

    Args:
        data: Content of the file.
        encoding: Encoding; errors raise `UnicodeDecodeError` at their line.
        newline: As of `open`: empty leaves line ends as they are, None turns them into a line feed.
    """
    return io.TextIOWrapper(io.BytesIO(data), "utf-8-sig" if encoding == "utf-8" else encoding, newline=newline)


def decoding_error(data: bytes, file: Path, code: str, encoding: str = "utf-8", hint: str = SAVE) -> DataError:
    """Return the error for bytes that are not text in an encoding, with the first wrong byte and its line."""
    place = ""
    try:
        data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        place = f": byte 0x{data[error.start]:02x} in line {line}"
    return DataError(f"{file} is not {encoding.upper()} text{place}", hint, code=code)
