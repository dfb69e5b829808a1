"""Read questions with answers in a context, in the JSON format of SQuAD 1.1 and 2.0."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from effxfer.data.listing import Finding
from effxfer.data.settings import DataSettings
from effxfer.data.sources.text_bytes import decoding_error
from effxfer.data.texts.examples import Answer, Example, TextListing, limit_findings
from effxfer.data.texts.numbered_lines import CODE, read_bytes
from effxfer.errors import DataError
from effxfer.runtime.text.tokens import LONGEST_TEXT

HINT = "give {'data': [{'paragraphs': [{'context': ..., 'qas': [{'question': ..., 'answers': [...]}]}]}]}"
ANSWER_HINT = "correct answer_start, which counts characters from 0, or remove the question"


# SQuAD 2.0 has 42 MB. As Python objects, JSON of empty lists takes 20 times its bytes.
MAX_BYTES = 64_000_000
# Some files write questions without an answer so, such as those of DuReader.
NO_ANSWER = {"text": "", "answer_start": -1}


class _FormError(ValueError):
    """A part of another form than SQuAD's."""


def read_squad(file: Path, settings: DataSettings) -> TextListing:
    """Read a file of questions.

    Args:
        file: The file.
        settings: `skip_bad` is used.

    Returns:
        An example for each question: its source is (question, context), its label all answers that people gave, empty
        for a question without an answer in the context. Findings: `E353` for an answer that is not at its place.

    Raises:
        DataError: `E310`, `E350` or `E352` if the file is absent, not UTF-8 or too large, `E351` if its form differs.
    """
    examples, findings = list[Example](), list[Finding]()
    try:
        for name, document, question, context, raw in _questions(_parse(file), file):
            answers = [_answer(answer, name) for answer in raw]
            wrong = [a for a in answers if context[a.start : a.start + len(a.text)] != a.text or not a.text.strip()]
            if wrong:
                findings.append(_misplaced_finding(name, wrong[0], settings.skip_bad))
                limit_findings(findings, file)
            else:
                examples.append(Example((question, context), _trim(answers), name, "", document))
    except _FormError as error:
        raise DataError(f"{file} is not in the format of SQuAD: {error}", HINT, code="E351") from None
    return TextListing(examples, findings)


def _parse(file: Path) -> Any:
    data = read_bytes(file, limit=MAX_BYTES)
    try:
        return json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise decoding_error(data, file, CODE, hint="save it as UTF-8 text") from None
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise DataError(f"{file} is no JSON: {reason}", HINT, code="E351") from None


def _questions(raw: Any, file: Path) -> Iterator[tuple[str, str, str, str, list[Any]]]:
    """Yield name, document, question, context and answers of each question."""
    names = Counter[str]()
    for number, article in enumerate(_list(raw, "data"), 1):
        title = article.get("title") if isinstance(article, dict) else None
        document = f"{file.name} {title if isinstance(title, str) else number}"
        for paragraph in _list(article, "paragraphs"):
            context = _text(paragraph, "context")
            for question in _list(paragraph, "qas"):
                text, name = _text(question, "question").strip(), question.get("id")
                place = f"{file.name}:{name}" if isinstance(name, str | int) else file.name
                names[place] += 1
                answers = [] if question.get("is_impossible") else _list(question, "answers")
                answers = [answer for answer in answers if answer != NO_ANSWER]
                # Questions are told apart by their names, and some files have no identifiers, or have them twice.
                yield f"{place}#{names[place]}" if names[place] > 1 else place, document, text, context, answers


def _list(raw: Any, name: str) -> list[Any]:
    value = raw.get(name) if isinstance(raw, dict) else None
    if not isinstance(value, list):
        raise _FormError(f"no list {name!r}")
    return value


def _text(raw: Any, name: str) -> str:
    value = raw.get(name) if isinstance(raw, dict) else None
    if not isinstance(value, str) or len(value) > LONGEST_TEXT:
        raise _FormError(f"no text {name!r} of at most {LONGEST_TEXT} characters")
    return value


def _answer(raw: Any, name: str) -> Answer:
    start = raw.get("answer_start") if isinstance(raw, dict) else None
    if type(start) is not int or start < 0:
        raise _FormError(f"an answer of {name} without answer_start")
    return Answer(start, _text(raw, "text"))


def _trim(answers: list[Answer]) -> tuple[Answer, ...]:
    """Remove blanks around answers, which no token holds, and repeated answers."""
    lefts = [Answer(a.start + len(a.text) - len(a.text.lstrip()), a.text.strip()) for a in answers]
    return tuple(dict.fromkeys(lefts))


def _misplaced_finding(name: str, answer: Answer, skip_bad: bool) -> Finding:
    text = f"the answer {answer.text!r:.60} is not at character {answer.start} of the context"
    if skip_bad:
        return Finding(code="E353", severity="warning", path=name, text=f"{text}, left out", group="answers left out")
    return Finding(code="E353", severity="error", path=name, text=text, hint=ANSWER_HINT)
