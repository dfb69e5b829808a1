"""List the texts of a source, and tokenize them once into a mapped cache."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from effxfer.data.checks.across_splits import check_items, find_single_class
from effxfer.data.checks.enough import check_size
from effxfer.data.checks.leaks import find_class_gaps
from effxfer.data.history import NONE, History, record_of
from effxfer.data.labels.arrays import label_array, output_of
from effxfer.data.labels.names import index_names
from effxfer.data.listing import SPLITS, Finding, Item, Listing, Text, notes_of
from effxfer.data.settings import DataSettings
from effxfer.data.splits import assign
from effxfer.data.task import Split, Task
from effxfer.data.texts.examples import Example, TextListing, exact_key, items
from effxfer.data.texts.text_audit import find_cut
from effxfer.data.texts.text_source import read_texts
from effxfer.data.texts.token_cache import TokenPlan, tokenize
from effxfer.errors import DataError, SettingsError
from effxfer.files import digest
from effxfer.runtime.rows import Ragged
from effxfer.runtime.text.encodings import Encodings
from effxfer.runtime.text.tokens import Tokens

UNIT = "text"


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
    used, split_findings, every = assign(listed, settings, history.split_of, UNIT)
    places = {item.path: place for place, item in enumerate(listed)}
    used.sort(key=lambda item: places[item.path])
    kind = settings.labels
    classes = classes or tuple(sorted({item.label for item in used}))
    findings = (
        *read.findings,
        *(find_single_class(classes, hint="give texts of two classes at least") if kind == "single" else ()),
        *find_class_gaps(listed, settings, UNIT),
        *split_findings,
        *check_size(used, kind, UNIT),
        *check_items(used, settings, classes, history, "same text", UNIT),
    )
    texts = {example.name: example.source for example in read.examples}
    return Listing(
        name=settings.name or Path(settings.source).stem,
        root=None,
        classes=classes,
        items=tuple(used),
        findings=findings,
        notes=notes_of(findings),
        digest=_digest_texts(used, texts, settings, classes),
        assigned=tuple(every),
        labels=kind,
        texts=texts,
    )


def load_texts(
    listing: Listing, tokens: Tokens, cache: Path, progress: Callable[[int, int], None] | None = None
) -> Task:
    """Tokenize the texts of a listing, or map their tokens from the cache; see `load.load`.

    Raises:
        SettingsError: If the tokens cut a text into several windows.
    """
    if tokens.stride:
        raise SettingsError(f"{listing.name} has one label for a whole text", "read it without windows: stride = 0")
    encoded = tokenize(TokenPlan(examples_of(listing), tokens, progress=progress), cache)
    splits = {name: _split(listing, name, encoded.get(name)) for name in SPLITS}
    return Task(
        name=listing.name,
        output=output_of(listing.labels, listing.classes, splits["train"].labels),
        train=splits["train"],
        val=splits["val"],
        test=splits["test"],
        input=tokens,
        digest=listing.key,
        records=(record_of(listing),),
        notes=(*listing.notes, *notes_of(_find_cut(listing, encoded, tokens))),
    )


def examples_of(listing: Listing) -> list[Example]:
    """Return the texts of a listing that are in use, with their splits."""
    return [Example(listing.texts[item.path], item.label, item.path, item.split) for item in listing.items]


def _read(settings: DataSettings, base: Path) -> TextListing:
    """Read texts that have one label each, of the kind of the settings.

    Raises:
        DataError: As `read_texts`; `E344` if they have labels of words, or answers.
    """
    read = read_texts(settings, base)
    wrong = next((e for e in read.examples if isinstance(e.label, tuple)), None)
    if wrong:
        text = f"{wrong.name} has labels for its words, or answers, and labels is {settings.labels!r}"
        raise DataError(text, "give texts with one label each", code="E344")
    return read


def _name_labels(read: TextListing, settings: DataSettings) -> tuple[TextListing, tuple[str, ...]]:
    """Return the texts, and the names of labels or values; of classes none, as only those in use count."""
    if settings.labels == "single":
        return read, ()
    if settings.labels == "value" or settings.label_columns:
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


def _split(listing: Listing, name: str, encodings: Encodings | None) -> Split:
    members = listing.split(name)
    return Split(
        rows=encodings.rows if encodings else Ragged.of([]),
        labels=label_array(listing.labels, [item.label for item in members], listing.classes),
        names=[item.path for item in members],
        decode_row=partial(_text_of_row, [listing.texts[item.path] for item in members]),
    )


def _text_of_row(texts: Sequence[Text], row: int) -> Text:
    return texts[row]


def _find_cut(listing: Listing, encoded: Mapping[str, Encodings], tokens: Tokens) -> list[Finding]:
    return find_cut(sum(each.cut for each in encoded.values()), len(listing.items), tokens.size)
