"""List the texts of a source, and tokenize them once into a mapped cache."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from effxfer.data.checks.across_splits import check_items, find_single_class
from effxfer.data.checks.class_names import check_names
from effxfer.data.checks.enough import check_size
from effxfer.data.checks.leaks import find_class_gaps
from effxfer.data.history import NONE, History, find_leaks_between_tables, record_of
from effxfer.data.labels.names import index_names
from effxfer.data.labels.tasks import listed_labels, listed_output, name_task_labels
from effxfer.data.listing import POSITION_KINDS, SPLITS, Finding, Item, Listing, Severity, Text, notes_of
from effxfer.data.settings import DataSettings
from effxfer.data.splits import assign
from effxfer.data.task import Split, Task
from effxfer.data.texts.examples import Example, TextListing, exact_key, items, read_label, shared_key
from effxfer.data.texts.position_checks import check_positions
from effxfer.data.texts.text_audit import find_cut
from effxfer.data.texts.text_labels import (
    answer_labels,
    count_lost_answers,
    count_lost_tags,
    count_lost_task_tags,
    label_names,
    tag_labels,
    task_labels,
)
from effxfer.data.texts.text_source import read_texts
from effxfer.data.texts.token_cache import TokenPlan, tokenize
from effxfer.errors import DataError, SettingsError
from effxfer.files import digest
from effxfer.runtime.multi_task.task_labels import TaskLabels
from effxfer.runtime.outputs.base import Output
from effxfer.runtime.outputs.masked_token import MaskedToken
from effxfer.runtime.outputs.span import ENDS
from effxfer.runtime.outputs.words import find_words
from effxfer.runtime.rows import Ragged
from effxfer.runtime.text.encodings import Encodings
from effxfer.runtime.text.tokens import Tokens

UNIT = "text"
FEW_CLASSES = "give texts of two classes, or with two tags, at least"


def survey_texts(settings: DataSettings, base: Path = Path(), history: History = NONE) -> Listing:
    """List the texts of a source; see `load.survey`.

    Raises:
        DataError: As `read_texts`; `E344` if the source has another kind of label.
        SettingsError: If a setting of images is given.
    """
    if mistake := settings.mistake_of_texts():
        raise SettingsError(f"data: {mistake}", code="E201")
    read, classes = _name_labels(_read(settings, base), settings)
    listed = items(read.examples)
    shared = {e.name: shared_key(e.source) for e in read.examples} if history.tables else {}
    used, split_findings, every = assign(listed, settings, lambda i: history.split_of(i, shared.get(i.path, "")), UNIT)
    places = {item.path: place for place, item in enumerate(listed)}
    used.sort(key=lambda item: places[item.path])
    kind = settings.labels
    classes = classes or (() if kind == "none" else tuple(sorted({item.label for item in used})))
    findings = (
        *read.findings,
        *(find_single_class(classes, hint=FEW_CLASSES) if kind in ("single", "tags") else ()),
        *check_names(classes, kind),
        *find_class_gaps(listed, settings, UNIT),
        *split_findings,
        *check_size(used, kind, UNIT, split_findings),
        *_check(used, read.examples, settings, classes, history),
        *_find_shared(used, shared, settings, history),
    )
    texts = {example.name: example.source for example in read.examples}
    return Listing(
        name=settings.name or Path(settings.source).stem,
        root=None,
        classes=classes,
        items=tuple(used),
        findings=findings,
        notes=notes_of(findings),
        digest=_digest_texts(used, texts, settings, (*classes, *settings.task_kinds)),
        assigned=tuple(every),
        labels=kind,
        tasks=settings.tasks,
        texts=texts,
    )


def _check(
    used: Sequence[Item], examples: Sequence[Example], settings: DataSettings, classes: tuple[str, ...],
    history: History,
) -> list[Finding]:  # fmt: skip
    if settings.labels in POSITION_KINDS:
        return check_positions(used, {example.name: example for example in examples}, settings, history)
    return check_items(used, settings, classes, history, "same text", UNIT)


def _find_shared(
    used: Sequence[Item], shared: Mapping[str, str], settings: DataSettings, history: History
) -> list[Finding]:
    """List the texts that are in another split of another table (E320)."""
    severity: Severity = "warning" if settings.allow_leakage else "error"
    contents = [item._replace(sha256=shared.get(item.path, item.sha256)) for item in used]
    return find_leaks_between_tables(contents, history, severity)


def load_texts(
    listing: Listing, tokens: Tokens, cache: Path, progress: Callable[[int, int], None] | None = None, *,
    as_words: bool = False,
) -> Task:  # fmt: skip
    """Tokenize the texts of a listing, or map their tokens from the cache; see `load.load`.

    Raises:
        SettingsError: If the tokens cut a text into several windows, and the label is one of the whole text.
    """
    if tokens.stride and listing.labels not in POSITION_KINDS:
        raise SettingsError(f"{listing.name} has one label for a whole text", "read it without windows: stride = 0")
    examples = [_as_words(example) if as_words else example for example in examples_of(listing)]
    plan = TokenPlan(examples, tokens, spans=listing.labels == "span", progress=progress)
    encoded = tokenize(plan, cache)
    splits = {name: _split(listing, name, encoded.get(name), tokens) for name in SPLITS}
    cut = find_cut(sum(each.cut for each in encoded.values()), len(listing.items), tokens.size)
    lost_labels = find_lost_labels({name: split.labels for name, split in splits.items()}, listing)
    return Task(
        name=listing.name,
        output=_output(listing, splits["train"], tokens),
        train=splits["train"],
        val=splits["val"],
        test=splits["test"],
        input=tokens,
        digest=listing.key,
        records=(record_of(listing),),
        notes=(*listing.notes, *notes_of([*cut, *lost_labels])),
    )


def _as_words(example: Example) -> Example:
    """Return an example whose text is divided as `predict` divides it; words stay as they are."""
    text = example.source
    if not isinstance(text, str):
        return example
    return example._replace(source=[text[start:end] for start, end in find_words(text)])


def _output(listing: Listing, train: Split, tokens: Tokens) -> Output:
    if listing.labels == "none":
        return MaskedToken(vocabulary=tokens.loaded.largest_id + 1)  # all that texts alone can be asked for
    return listed_output(listing, train.labels)


def examples_of(listing: Listing, split: str = "") -> list[Example]:
    """Return the texts of a listing that are in use, with their splits; those of one split only, if it is named."""
    return [
        Example(listing.texts[item.path], read_label(listing.labels, item.label), item.path, item.split)
        for item in listing.items
        if split in ("", item.split)
    ]


def find_lost_labels(labels: Mapping[str, Any], listing: Listing) -> list[Finding]:
    """Note the tags and answers that no row has, because texts were cut (W358).

    Args:
        labels: Of each split.
        listing: The texts, with all of their labels.
    """
    count: Callable[..., int] = count_lost_answers if listing.labels == "span" else count_lost_tags
    if any(isinstance(each, TaskLabels) for each in labels.values()):
        count = partial(count_lost_task_tags, listing.tasks)
    elif listing.labels not in POSITION_KINDS:
        return []
    counts = {name: count(each, examples_of(listing, name)) for name, each in labels.items() if len(each)}
    if not any(counts.values()):
        return []
    unit = "answers" if listing.labels == "span" else "words"
    text = f"{unit} that are cut off: {', '.join(f'{number} of {name}' for name, number in counts.items() if number)}"
    hint = "raise `backbone.size`, if the network can read longer texts"
    return [Finding(code="W358", severity="warning", path="", text=text, hint=hint)]


def _read(settings: DataSettings, base: Path) -> TextListing:
    """Read texts that have labels of the kind of the settings.

    Raises:
        DataError: As `read_texts`; `E344` if they have labels of another kind.
    """
    read = read_texts(settings, base)
    wrong = next((e for e in read.examples if isinstance(e.label, str) == (settings.labels in POSITION_KINDS)), None)
    if wrong:
        label = "one label" if isinstance(wrong.label, str) else "labels for its words, or answers"
        text = f"{wrong.name} has {label}, and labels is {settings.labels!r}"
        raise DataError(text, "set `data.labels`: tags for words, span for answers, single for classes", code="E344")
    return read


def _name_labels(read: TextListing, settings: DataSettings) -> tuple[TextListing, tuple[str, ...]]:
    """Return the texts, and the names of labels or values; of classes none, as only those in use count."""
    if settings.labels == "single":
        return read, ()
    if settings.labels in POSITION_KINDS:
        return read, label_names(read.examples) if settings.labels == "tags" else ENDS
    if settings.tasks:
        joined, classes, findings = name_task_labels([str(e.label) for e in read.examples], settings.tasks, UNIT)
        examples = [e._replace(label=label) for e, label in zip(read.examples, joined, strict=True)]
        return TextListing(examples, [*read.findings, *findings]), classes
    if settings.labels in ("none", "value") or settings.label_columns:
        return read, settings.names_of_labels
    cells = [str(example.label) for example in read.examples]
    labels, classes, findings = index_names(cells, settings.label_separator, UNIT)
    examples = [e._replace(label=labels[cell]) for e, cell in zip(read.examples, cells, strict=True)]
    return TextListing(examples, [*read.findings, *findings]), classes


def _digest_texts(
    used: Sequence[Item], texts: Mapping[str, Text], settings: DataSettings, classes: Sequence[str]
) -> str:
    # The text as it is: `Item.sha256` is equal for texts that differ in case, which a tokenizer may tell apart.
    rows = [[i.path, exact_key(texts[i.path]), i.label, i.split] for i in used]
    return digest([UNIT, settings.labels, classes, rows])


def _split(listing: Listing, name: str, encodings: Encodings | None, tokens: Tokens) -> Split:
    members = listing.split(name)
    if listing.labels in POSITION_KINDS:
        return _split_of_windows(listing, name, encodings or tokens.encode([], spans=True), tokens)
    labels = listed_labels(listing, [item.label for item in members])
    if "tags" in listing.tasks.values():
        encodings = encodings or tokens.encode([])
        labels = task_labels(encodings, examples_of(listing, name), labels, listing.classes, listing.tasks)
    return Split(
        rows=encodings.rows if encodings else Ragged.of([]),
        labels=labels,
        names=[item.path for item in members],
        decode_row=partial(_text_of_row, [listing.texts[item.path] for item in members]),
    )


def _text_of_row(texts: Sequence[Text], row: int) -> Text:
    return texts[row]


def _split_of_windows(listing: Listing, name: str, encodings: Encodings, tokens: Tokens) -> Split:
    """Return a split with a row for each text, or several for a long one, and labels of their positions."""
    examples = examples_of(listing, name)
    labels: Any = (
        tag_labels(encodings, examples, listing.classes)
        if listing.labels == "tags"
        else answer_labels(encodings, examples, tokens.stride)
    )
    return Split(rows=encodings.rows, labels=labels, names=[examples[group].name for group in encodings.groups])
