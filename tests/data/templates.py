"""Texts from templates: sentences with tagged names, and questions about a context."""

import json
import random
from pathlib import Path

PEOPLE = ("Anna Björk", "Carlos Müller", "Dmitri O'Neill", "Ingrid van Vries", "Łukasz Fernández", "Hiroshi Okonkwo")
PLACES = ("Reykjavík", "San Sebastián", "Kuala Lumpur", "Zürich", "New Orleans", "Ouagadougou")
SENTENCES = (
    "{PER} flew from {LOC} to {LOC} .",
    "The mayor of {LOC} met {PER} and {PER} .",
    "{PER} , who lives in {LOC} , retired .",
    "Yesterday it rained in {LOC} .",
    "{PER} saw {PER} .",
)
STORIES = (
    ("{PER} flew to  {LOC}.", ("PER", "LOC")),
    ("In {LOC} ,  {PER} retired.", ("LOC", "PER")),
    ("The mayor met {PER}  yesterday.", ("PER",)),
    ("It  rained in {LOC}.", ("LOC",)),
)
QUESTIONS = {"PER": "Who was it?", "LOC": "Where was it?"}


def names(rng: random.Random, kind: str) -> list[str]:
    """A name, of a person with any family name."""
    if kind == "LOC":
        return rng.choice(PLACES).split()
    return [rng.choice(PEOPLE).split()[0], *rng.choice(PEOPLE).split()[1:]]


def sentence(rng: random.Random) -> list[tuple[str, str]]:
    """Words with tags."""
    words = []
    for part in rng.choice(SENTENCES).split():
        if part.startswith("{"):
            kind = part[1:4]
            words += [(word, f"{'I' if n else 'B'}-{kind}") for n, word in enumerate(names(rng, kind))]
        else:
            words.append((part, "O"))
    return words


def write_conll(file: Path, count: int, seed: int = 0, documents: int = 0) -> Path:
    """Write different sentences, in some documents."""
    rng, texts = random.Random(seed), {}
    while len(texts) < count:
        words = sentence(rng)
        texts.setdefault(" ".join(word for word, _ in words), "".join(f"{word} {tag}\n" for word, tag in words))
    blocks = list(texts.values())
    if documents:
        size = count // documents
        blocks = [("-DOCSTART- O\n\n" if n % size == 0 else "") + block for n, block in enumerate(blocks)]
    file.write_text("\n".join(blocks))
    return file


INTENTS = {"flew": "travel", "mayor": "meeting", "lives": "retirement", "rained": "weather", "saw": "meeting"}


def write_joint(folder: Path, count: int, seed: int = 0) -> Path:
    """Write sentences with an intent and tags: `joint.jsonl`, and two tables, `intent.csv` and `slots.conll`."""
    rng, rows = random.Random(seed), {}
    while len(rows) < count:
        words, tags = zip(*sentence(rng), strict=True)
        intent = next(intent for word, intent in INTENTS.items() if word in words)
        rows.setdefault(" ".join(words), {"text": list(words), "intent": intent, "slots": list(tags)})
    folder.mkdir(exist_ok=True)
    (folder / "joint.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows.values()))
    lines = [f'"{text}",{row["intent"]}' for text, row in rows.items()]
    (folder / "intent.csv").write_text("\n".join(["text,label", *lines]))
    blocks = ("".join(f"{w} {t}\n" for w, t in zip(row["text"], row["slots"], strict=True)) for row in rows.values())
    (folder / "slots.conll").write_text("\n".join(blocks))
    return folder


def paragraph(rng: random.Random) -> tuple[str, list[tuple[str, str, int]], list[str]]:
    """A context with accents and double spaces, questions with answer and place, and those that it does not answer."""
    story, kinds = rng.choice(STORIES)
    context, questions = "Yesterday ", []
    for kind, part in zip(kinds, story.split("{")[1:], strict=True):
        context += story.partition("{")[0] if kind == kinds[0] else ""
        answer = " ".join(names(rng, kind))
        questions.append((QUESTIONS[kind], answer, len(context)))
        context += answer + part[len("PER}") :]
    return context, questions, [question for kind, question in QUESTIONS.items() if kind not in kinds]


def write_questions(file: Path, count: int, seed: int = 0, unanswerable: float = 0.3) -> Path:
    """Write different paragraphs, some with a question that has no answer; no question has one where the share is 1."""
    rng, data, seen = random.Random(seed), [], set()
    while len(data) < count:
        context, questions, unanswered = paragraph(rng)
        if context in seen:
            continue
        seen.add(context)
        asked = [(q, [{"text": a, "answer_start": start}]) for q, a, start in questions if unanswerable < 1]
        asked += [(question, []) for question in unanswered if rng.random() < unanswerable]
        qas = [{"id": f"{len(data)}-{n}", "question": q, "answers": a} for n, (q, a) in enumerate(asked)]
        data.append({"title": f"t{len(data)}", "paragraphs": [{"context": context, "qas": qas}]})
    file.write_text(json.dumps({"data": data}, ensure_ascii=False))
    return file
