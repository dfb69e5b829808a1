"""Load a task from data settings: list, split and digest its examples, then decode them once into a mapped cache."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from effxfer.data.checks.enough import require_validation
from effxfer.data.class_embeddings import join_class_embeddings, with_class_embeddings
from effxfer.data.history import NONE, History, describe_difference
from effxfer.data.listing import Listing, notes_of, raise_errors
from effxfer.data.load_images import load_images, survey_images
from effxfer.data.load_texts import load_texts, survey_texts
from effxfer.data.load_vectors import holds_vectors, load_vectors, survey_vectors
from effxfer.data.settings import DataSettings
from effxfer.data.sources.file_hashes import default_cache
from effxfer.data.target import attach_target, choose_classes, join_target, separate_domain
from effxfer.data.task import Task
from effxfer.data.texts.modality import holds_texts
from effxfer.errors import SettingsError
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.runtime.inputs import Input
from effxfer.runtime.text.tokens import Tokens
from effxfer.runtime.vectors.vectors import Vectors

HINTS = {
    Preprocess.unit: "give it images, or start from a text encoder, hf:FOLDER, or of vectors from effxfer.net.mlp:mlp",
    Tokens.unit: "give it texts; `data.format` says what a file holds, such as lines, table or jsonl",
    Vectors.unit: "give it vectors, a .npz file with arrays features and labels",
}


def scan(settings: DataSettings, base: Path = Path(), *, cache: Path | None = None, history: History = NONE) -> Listing:
    """List and digest examples, labels and splits, without decoding an image or tokenizing a text.

    Args:
        settings: Settings of the data set.
        base: Folder that a relative source starts from.
        cache: Folder with the digests of unchanged files; None for `$EFFXFER_CACHE` or `~/.cache/effxfer`.
        history: Splits of the network's earlier stages, which are kept.

    Raises:
        DataError: If the layout, a file or the splits have errors: `E310` to `E353`.
        SettingsError: If a setting of images is given for texts.
        ResourceError: If a package that the source needs is not installed.
    """
    listing = survey(settings, base, cache=cache, history=history)
    if history.keeps_classes:
        listing = _allow_single_class(listing)
    raise_errors(listing.findings, settings.source)
    if settings.target is not None:
        listing = join_target(listing, scan(settings.target, base, cache=cache, history=history), settings)
    if settings.target_domain is not None:
        source, target = separate_domain(listing, settings.target_domain)
        listing = join_target(source, target, settings)
    if settings.class_embeddings is not None:
        listing = join_class_embeddings(listing, settings.class_embeddings, base, _new_classes(listing, settings))
    findings = (*listing.findings, *describe_difference(listing, history, settings.source))
    return replace(listing, findings=findings, notes=notes_of(findings))


def _allow_single_class(listing: Listing) -> Listing:
    """Drop the error of a single class (E312): the network tells it from those that it knows."""
    if len(listing.classes) != 1:
        return listing
    return replace(listing, findings=tuple(one for one in listing.findings if one.code != "E312"))


def _new_classes(listing: Listing, settings: DataSettings) -> tuple[str, ...]:
    """Return the classes of the target that the task does not have, if it is one of new classes."""
    if listing.target is None:
        return ()
    classes = choose_classes(listing.target.classes, listing.classes, settings.target_classes)
    return tuple(name for name in classes if name not in listing.classes)


def survey(
    settings: DataSettings, base: Path = Path(), *, cache: Path | None = None, history: History = NONE
) -> Listing:
    """List like `scan`, but return errors as findings instead of raising them.

    Raises:
        DataError: Only if nothing can be listed: no such source, or an unreadable table.
        SettingsError: If the cache lies inside the folder, or a setting of images is given for texts.
        ResourceError: If a package that the source needs is not installed.
    """
    of_vectors, of_texts = holds_vectors(settings), holds_texts(settings, base)
    if settings.labels == "none" and of_vectors:
        text = f"{settings.source} holds vectors, and labels = 'none' is for images and texts"
        raise SettingsError(text, "set labels to the kind of their labels, or name images or texts")
    if of_vectors:
        return survey_vectors(settings, base, history)
    if of_texts:
        return survey_texts(settings, base, history)
    return survey_images(settings, base, cache or default_cache(), history)


def load(
    settings: DataSettings,
    input: Input,
    *,
    base: Path = Path(),
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    history: History = NONE,
    listing: Listing | None = None,
    as_words: bool = False,
) -> Task:
    """Load a task: decode its images or tokenize its texts once, then memory-map them from the cache.

    Args:
        settings: Settings of the data set.
        input: How the backbone takes examples: of images the size, crop and interpolation of the evaluation view; of
            texts the tokenizer and the most tokens; of vectors their width and standardisation.
        base: Folder that a relative source starts from.
        cache: Folder of decoded examples; None for `$EFFXFER_CACHE` or `~/.cache/effxfer`.
        progress: Called with the number of decoded examples and of all, unless the cache holds them.
        history: Splits of the network's earlier stages, which are kept.
        listing: Result of `scan` for the same settings and history; None to scan now.
        as_words: Whether texts are divided into words, see `Loader`.

    Raises:
        DataError: If `scan` raises it; `E301` to `E307` for unreadable images unless `skip_bad`, with the first five;
            `E313` if a class has no readable image; `E322` if a file changes meanwhile; `E350` if a text cannot be
            tokenized.
        SettingsError: If the data set holds texts and the input is one of images, or the other way round.
        ResourceError: If neither the cache nor the temporary folder nor memory has room for the examples.
    """
    cache = cache or default_cache()
    listing = listing or scan(settings, base, cache=cache, history=history)
    task = _load_listed(listing, settings, input, cache, progress, as_words)
    require_validation(task)
    if settings.target is not None:
        target = load(
            settings.target, task.input, base=base, cache=cache, progress=progress, history=history,
            listing=listing.target,
        )  # fmt: skip
    elif listing.target is not None:  # a domain of the same source
        target = _load_listed(listing.target, settings, task.input, cache, progress)
    else:
        return with_class_embeddings(task, listing.class_embeddings)
    return with_class_embeddings(attach_target(task, target, settings.target_classes), listing.class_embeddings)


def _load_listed(
    listing: Listing, settings: DataSettings, input: Input, cache: Path, progress: Callable[[int, int], None] | None,
    as_words: bool = False,
) -> Task:  # fmt: skip
    require_unit(listing, input.unit, settings.source)
    if isinstance(input, Vectors):
        return load_vectors(listing, input)
    if isinstance(input, Tokens):
        return load_texts(listing, input, cache, progress, as_words=as_words)
    assert isinstance(input, Preprocess)
    return load_images(listing, settings, input, cache, progress)


def require_unit(listing: Listing, unit: str, source: str) -> None:
    """Refuse a data set for a network that takes something else.

    Args:
        listing: Its examples.
        unit: What the network takes: `Input.unit`.
        source: Name of the data set for the message.

    Raises:
        SettingsError: If it does.
    """
    if listing.unit != unit:
        raise SettingsError(f"this network takes {unit}, and {source} holds {listing.unit}", HINTS[unit])
