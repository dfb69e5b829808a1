r"""Accept only regular expressions that take linear time, because anybody may have written a tokenizer.

The library's engine backtracks: `(a+)+$` takes exponential time, and `a*b` quadratic time on a text of a million `a`.
A branch is accepted if it cannot fail after a run of any length: only optional parts may follow one. Two branches of
the tokenizers of GPT-4 and Llama are accepted by their text: `\s+(?!\S)` gives back one character at most, and what
`\s*[\r\n]+` has read in vain is then read by `\s+`.
"""

import re

LONGEST, MOST_BRANCHES, MOST_REPEATS, MOST_OPTIONAL = 500, 50, 4, 4
ESCAPE = r"\\[pP]\{\^?\w+\}|\\[sSdDwWrntf]|\\[^\w\s]"
ATOM = re.compile(rf"{ESCAPE}|\[\^?(?:{ESCAPE}|[^\]\[\\&])+\]|[^\\()\[\]{{}}|*+?^$]")
GROUP = re.compile(r"\((?:\?i?:)?[^()\[\]{}\\*+?^$]+\)")
QUANTIFIER = re.compile(r"(?:[?*+]|\{(\d+)(,(\d+)?)?\})\+?")
BLANKS, NEWLINES = r"\s+(?!\S)", r"\s*[\r\n]+"
SPACES = r"\s+"


def unsafe_reason(pattern: str) -> str:
    r"""Return why a regular expression is not accepted; empty if it takes linear time.

    >>> unsafe_reason(r" ?\p{L}+| ?\p{N}{1,3}|\s+(?!\S)|\s+")
    ''
    >>> unsafe_reason("(a+)+$")
    "it uses '(a+)+$'"
    """
    if not 0 < len(pattern) <= LONGEST:
        return f"it has {len(pattern)} characters, 1 to {LONGEST} are accepted"
    branches, start, position = list[str](), 0, 0
    while position < len(pattern):
        if pattern[position] == "|":
            branches.append(pattern[start:position])
            start = position = position + 1
        elif step := _step(pattern, position):
            position += step
        else:
            return f"it uses {pattern[position : position + 20]!r}"
    branches.append(pattern[start:])
    if len(branches) > MOST_BRANCHES:
        return f"it has {len(branches)} branches, {MOST_BRANCHES} at most"
    return next((reason for branch in branches if (reason := _branch_reason(branch, branches))), "")


def _step(pattern: str, position: int) -> int:
    """Return the length of the part at a position, with its quantifier; 0 for a part that is not accepted."""
    if pattern.startswith(BLANKS, position):
        return len(BLANKS)
    part = GROUP.match(pattern, position) or ATOM.match(pattern, position)
    if part is None:
        return 0
    quantifier = QUANTIFIER.match(pattern, part.end())
    return (quantifier or part).end() - position


def _branch_reason(branch: str, branches: list[str]) -> str:
    if branch == BLANKS or (branch == NEWLINES and SPACES in branches):
        return ""
    position, run, optional = 0, False, 0
    while position < len(branch):
        length = _step(branch, position)
        minimum, maximum = _repeats(branch[position : position + length])
        if run and minimum:
            return f"the part {branch!r} may read a long run again and again"
        if maximum is None:
            run = True
        optional += (minimum, maximum) != (1, 1)
        if optional > MOST_OPTIONAL or (maximum or 0) > MOST_REPEATS or (run and branch[position] == "("):
            return f"the part {branch!r} has too many repeats"
        position += length
    return "" if branch else "it has an empty branch"


def _repeats(part: str) -> tuple[int, int | None]:
    """Return how often a part occurs at least and at most; None is any number."""
    atom = GROUP.match(part) or ATOM.match(part)
    quantifier = QUANTIFIER.fullmatch(part, atom.end()) if atom else None
    if quantifier is None:
        return 1, 1
    sign, (minimum, comma, maximum) = quantifier[0][0], quantifier.groups()
    if sign != "{":
        return int(sign == "+"), 1 if sign == "?" else None
    return int(minimum), (int(maximum) if maximum else None) if comma else int(minimum)
