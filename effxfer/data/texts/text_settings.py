"""Settings of labelled texts: their source, its format and its columns."""

from typing import Literal

from pydantic import Field, model_validator

from effxfer.settings import Settings

Format = Literal["auto", "lines", "table", "conll", "squad", "jsonl"]


class TextSettings(Settings):
    """Settings of the texts of one data set.

    Attributes:
        source: A file, a folder of files, or a pattern of files such as `reviews/sst2.*`. Of several files, each holds
            the split that a part of its name says: `train`, `dev`, `val` or `test`.
        format: `lines` of a label and a text with a blank or a tab between; a `table` (`.csv`, `.tsv`, `.parquet`);
            `conll` columns of words and tags; `squad` questions with answers in a context (versions 1.1 and 2.0);
            `jsonl`, an object in each line. `auto` goes by the suffix.
        text_column: Column of a table, or field of an object, that holds the text, or a list of words.
        pair_column: Column or field of the second text of a pair; None for single texts.
        label_column: Column or field that holds the label.
        split_column: Column or field that holds `train`, `val` or `test`; it may be absent.
        word_column: Column of a CoNLL file that holds the word, from 0; negative ones count from the last.
        tag_column: Column of a CoNLL file that holds the tag.
        encoding: Encoding of text files.
        skip_bad: Leave out lines that cannot be used, and report their number, instead of stopping.
    """

    source: str = Field(min_length=1)
    format: Format = "auto"
    text_column: str = Field(default="text", min_length=1)
    pair_column: str | None = Field(default=None, min_length=1)
    label_column: str = Field(default="label", min_length=1)
    split_column: str = Field(default="split", min_length=1)
    word_column: int = Field(default=0, ge=-100, le=100)
    tag_column: int = Field(default=-1, ge=-100, le=100)
    encoding: Literal["utf-8", "latin-1", "cp1252", "utf-16"] = "utf-8"
    skip_bad: bool = False

    @model_validator(mode="after")
    def _check_columns(self) -> "TextSettings":
        names = [n for n in (self.text_column, self.pair_column, self.label_column, self.split_column) if n]
        if len(set(names)) < len(names):
            raise ValueError("text_column, pair_column, label_column and split_column must be different columns")
        if self.word_column == self.tag_column:
            raise ValueError("word_column and tag_column must be different columns")
        return self
