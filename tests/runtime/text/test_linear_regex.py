import pytest

from effxfer.runtime.text.linear_regex import unsafe_reason

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
GPT4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CLIP = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


@pytest.mark.parametrize(
    "pattern", [GPT2, GPT4, CLIP, " {2,}", r"\s+", r"\d", "a", r"[a\]b]+", r"(?:ab)?c", r"a++", r"\."]
)
def test_patterns_of_known_tokenizers_are_accepted(pattern):
    assert unsafe_reason(pattern) == ""


@pytest.mark.parametrize(
    "pattern",
    [
        "", "(a+)+$", "(a|aa)+", "(a|aa)+b", "a*b", r"\s*[\r\n]+", r"(a)\1", "(a", "[a", "a$", "^a", "a|", r"a+(?!b)",
        r"(?=a)b", "a+?b", "a{1,5}", "a{9}", "a{2,}b", "a?" * 5, "a?" * 40 + "a" * 40, "x" * 501, "|".join("ab" * 26),
        r"\S+(?!\S)", "(?<!a)b", r"\p{L}*\p{Ll}+", "[a&&b]+", "(?#x)", r"a+(?:b)?", r"[\q]", "é{5}", "a*a*a*a*a*",
    ],
)  # fmt: skip
def test_patterns_that_may_take_for_ever_or_are_unknown_are_refused(pattern):
    assert unsafe_reason(pattern)


def test_the_reason_names_the_part():
    assert unsafe_reason("x|a*b") == "the part 'a*b' may read a long run again and again"
    assert unsafe_reason("x|(?<n>a)") == "it uses '(?<n>a)'"
    assert unsafe_reason("x||y") == "it has an empty branch"
