"""Fields that documents share, with the limits of a document that makes sense."""

from typing import Annotated, Any

from pydantic import Field

# Chosen: a note is a sentence or two. Beyond, a document is damage, and reports would print it.
MAX_TEXT = 10_000
# Several times the 21,841 classes of ImageNet-21k.
MAX_NAMES = 100_000
# Weights of that number would take 4 TB.
MAX_COUNT = 2**40
LONGEST_NAME = 1000
Name = Annotated[str, Field(max_length=LONGEST_NAME)]
Names = Annotated[list[Name], Field(max_length=MAX_NAMES)]
Text = Annotated[str, Field(max_length=MAX_TEXT)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
# The widest layers are classifiers and vocabularies: ImageNet-21k has 21,841, multilingual ones 250,000.
Width = Annotated[int, Field(ge=1, le=2**20)]
# Chosen: far beyond any scale, and the square is still finite in float64 (1.8e308).
Number = Annotated[float, Field(ge=-1e30, le=1e30)]
# Weights have at most 5 dimensions (convolutions over time), none of them near 2^31.
Shape = Annotated[list[Annotated[int, Field(ge=0, le=2**31)]], Field(max_length=8)]
Table = dict[Name, Any]
