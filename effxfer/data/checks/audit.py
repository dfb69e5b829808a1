"""Audit a data set before training: look at every example, and report all problems instead of the first one.

Beyond what `scan` finds (layout, files, splits), the audit finds in texts and vectors what `text_audit`
and `vector_audit` list, and in images

* `E301` not an image, `E302` truncated or damaged, `E304` no defined range, `E306` needs a package, `E307` too large,
* `W303` a decoder's warning, `W304` 16 bits, `W305` several frames, `W308` tiny or extremely long,
* `W381` another colour type, `W382` transparency, `W383` EXIF rotation, `W384` a suffix of another format,
* `E320` equal pixels in two splits, even if the files differ,
* `W385` so wide or tall that a centre crop loses more than half of it,
* `W338` labels that may be wrong, if `extra_checks` looks for them.

Damage that a JPEG decoder conceals (a flipped bit in the scan) is not found: Pillow hides libjpeg's warnings.
"""

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from effxfer.data.checks.label_counts import label_table, measure_balance
from effxfer.data.checks.leaks import find_leaks
from effxfer.data.checks.unread import LEFT_OUT, REPAIR, find_empty_classes
from effxfer.data.decoded import decode
from effxfer.data.listing import NOUNS, SPLITS, Finding, Item, Listing, Severity, notes_of, summarize
from effxfer.data.load import survey
from effxfer.data.load_texts import examples_of
from effxfer.data.settings import DataSettings
from effxfer.data.target import join_target
from effxfer.data.texts.text_audit import inspect_texts
from effxfer.data.vectors.vector_audit import audit_vectors
from effxfer.errors import DataError, SettingsError
from effxfer.files import write_atomic
from effxfer.report import Measurement, Report, Table
from effxfer.runtime.images.names import SUFFIX_OF
from effxfer.runtime.images.preprocess import ImageError, ImageFacts
from effxfer.runtime.printing import csv_cell

# Chosen: about what somebody looks through; the rest is in the CSV file.
SUSPECTS = 50
COLUMNS = ("path", "code", "severity", "text", "hint")
PLAIN_MODES = frozenset({"RGB", "L"})


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Result of an audit.

    Attributes:
        findings: Errors first, then warnings, then notes.
        report: Counts, class balance, and a sentence for each kind of warning.
        listing: The audited listing.
    """

    findings: tuple[Finding, ...]
    report: Report
    listing: Listing

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Findings that prevent training."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    def rows(self) -> list[dict[str, str]]:
        """Convert the findings into rows of `data_audit.csv`: path, code, severity, text, hint."""
        return [{column: str(getattr(finding, column)) for column in COLUMNS} for finding in self.findings]

    def write_csv(self, file: Path) -> Path:
        """Write `rows` as a CSV file (UTF-8), atomically; cells that look like formulas are escaped (`csv_cell`)."""
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, COLUMNS)
        table.writeheader()
        table.writerows({name: csv_cell(value) for name, value in row.items()} for row in self.rows())
        return write_atomic(file, text.getvalue().encode("utf-8", "backslashreplace"))


class _Inspection(NamedTuple):
    """Result of decoding one image: findings, and a digest of its pixels (empty if unreadable)."""

    findings: list[Finding]
    content: str


def audit(
    settings: DataSettings,
    base: Path = Path(),
    *,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    extra_checks: Callable[[], Sequence[Finding]] = tuple,
) -> Audit:
    """Audit every image or text of a data set.

    Args:
        settings: The data set.
        base: Folder that a relative source starts from.
        cache: Folder with the digests of unchanged files; None for `$EFFXFER_CACHE` or `~/.cache/effxfer`.
        progress: Called with the number of audited images and of all images; texts take seconds.
        extra_checks: Returns findings about the data set as a whole; called only if there are no errors.

    Raises:
        DataError: Only if nothing can be listed: no such source, or an unreadable table.
        SettingsError: If `extra_checks` are requested for labels other than single ones.
    """
    if settings.labels != "single" and extra_checks is not tuple:
        text = f"labels that may be wrong are found among single labels, and labels is {settings.labels!r}"
        raise SettingsError(text, "leave out `suspects`")
    listing = survey(settings, base, cache=cache)
    if listing.texts:
        decoded, findings = list[Finding](), [*listing.findings, *inspect_texts(examples_of(listing))]
    elif listing.vectors is not None:
        decoded, findings = list[Finding](), [*listing.findings, *audit_vectors(listing)]
    else:
        decoded, findings = _audit_images(listing, settings, progress)
    findings += _audit_target(listing, settings, base, cache)
    if not any(finding.severity == "error" for finding in findings):
        findings += extra_checks()
    ranks = {"error": 0, "warning": 1, "note": 2}
    findings.sort(key=lambda finding: ranks[finding.severity])
    return Audit(findings=tuple(findings), report=_report(listing, findings, decoded), listing=listing)


def _audit_images(
    listing: Listing, settings: DataSettings, progress: Callable[[int, int], None] | None
) -> tuple[list[Finding], list[Finding]]:
    """Return the findings about single images, and all findings."""
    inspections = _inspect(listing, settings, progress)
    decoded = [finding for inspection in inspections for finding in inspection.findings]
    twins = _find_twins(listing, inspections, settings)
    return decoded, [*listing.findings, *decoded, *_find_emptied(listing, decoded), *twins]


def _inspect(
    listing: Listing, settings: DataSettings, progress: Callable[[int, int], None] | None
) -> list[_Inspection]:
    items, count = listing.everything, 0
    inspections = [_Inspection([], "")] * len(items)
    workers = decode.decoding_threads(settings.workers, decode.typical_side(listing.root, items, settings.max_pixels))
    for batch in decode.run_threaded(lambda item: _inspect_image(listing.root, item, settings), items, workers):
        for position, result in batch:
            inspections[position] = result
        count += len(batch)
        if progress:
            progress(count, len(items))
    return inspections


def _inspect_image(root: Path | None, item: Item, settings: DataSettings) -> _Inspection:
    try:
        decoded = decode.decode_item(root, item, settings.max_pixels)
    except ImageError as error:
        severity = "warning" if settings.skip_bad else "error"
        hint = error.hint or REPAIR
        text = f"{error.problem}, left out" if settings.skip_bad else error.problem
        bad = Finding(code=error.code, severity=severity, path=item.path, text=text, hint=hint, group=LEFT_OUT)  # type: ignore[arg-type]
        return _Inspection([bad], "")
    image = decoded.image
    content = hashlib.blake2b(f"{image.size}".encode() + image.tobytes(), digest_size=16).hexdigest()
    warnings = [
        Finding(code=code, severity="warning", path=item.path, text=f"{text}: {detail}", group=text)
        for code, detail in decode.find_warnings(decoded).items()
        for text in (decode.KINDS[code],)
    ]
    return _Inspection([*warnings, *_conversions(item, decoded.facts)], content)


def _find_emptied(listing: Listing, decoded: Sequence[Finding]) -> list[Finding]:
    """Refuse classes without a readable training image, if unreadable ones are skipped."""
    unreadable = {finding.path for finding in decoded if finding.group == LEFT_OUT}
    if not unreadable:
        return []
    return find_empty_classes(listing.classes, listing.split("train"), unreadable, listing.labels)


def _audit_target(listing: Listing, settings: DataSettings, base: Path, cache: Path | None) -> list[Finding]:
    """Audit the target, and check that its classes fit."""
    if settings.target is None:
        return []
    target = audit(settings.target, base, cache=cache)
    findings = [replace(f, path=f"{settings.target.source}/{f.path}".rstrip("/")) for f in target.findings]
    try:
        join_target(listing, target.listing, settings)
    except DataError as error:
        findings.append(Finding(code=error.code, severity="error", path="", text=error.problem, hint=error.hint))
    return findings


def _conversions(item: Item, facts: ImageFacts) -> list[Finding]:
    if facts.format == "builtin":
        return []
    conversions = []
    # A GIF always has a palette, and 16 bits have a warning of their own (W304).
    usual = facts.mode in PLAIN_MODES or facts.format == "GIF" or facts.bits == 16
    if not usual and not facts.alpha:
        conversions.append(("W381", f"converted from {facts.mode} to RGB"))
    if facts.alpha:
        conversions.append(("W382", "transparency composited on white"))
    if facts.rotated:
        conversions.append(("W383", "turned upright by its EXIF orientation"))
    if not item.path.lower().endswith(SUFFIX_OF.get(facts.format, ())):
        conversions.append(("W384", f"suffix of another format: the file is {facts.format}"))
    return [Finding(code=code, severity="note", path=item.path, text=text) for code, text in conversions]


def _find_twins(listing: Listing, inspections: Sequence[_Inspection], settings: DataSettings) -> list[Finding]:
    """Find equal pixels in two splits whose files differ; an error if the source itself has the splits."""
    content = {i.path: one.content for i, one in zip(listing.everything, inspections, strict=True) if one.content}
    same_file = {finding.path for finding in listing.findings if finding.code == "E320"}
    split_here = any(finding.code == "W339" for finding in listing.findings)
    # A split that was drawn here can be drawn again; one that somebody made is wrong.
    severity: Severity = "warning" if settings.allow_leakage or split_here else "error"
    findings = find_leaks(listing.items, content, "same pixels", severity)
    return [finding for finding in findings if finding.path not in same_file]


def _report(listing: Listing, findings: Sequence[Finding], decoded: Sequence[Finding]) -> Report:
    severities = Counter(finding.severity for finding in findings)
    total, unreadable = len(listing.everything), sum(finding.code.startswith("E") for finding in decoded)
    share = Measurement(name="unreadable", value=100 * unreadable / max(1, total), unit="%", n=total, of="images")
    unread = (share,) if listing.unit == "images" else ()
    rows = [
        Measurement(name=listing.unit, value=len(listing.items)),
        *(Measurement(name=f"{listing.unit}/{split}", value=len(listing.split(split))) for split in SPLITS),
        Measurement(name=NOUNS[listing.labels], value=len(listing.classes)),
        *unread,
        *(Measurement(name=f"{name}s", value=severities[name]) for name in ("error", "warning", "note")),
        *measure_balance(listing),
    ]
    codes: dict[str, list[Finding]] = {}
    for finding in findings:
        if finding.severity == "error":
            codes.setdefault(finding.code, []).append(finding)
    errors = [f"{code} {summarize(same)}" for code, same in codes.items()]
    tables = (label_table(listing), *_suspect_table(findings, listing.unit[:-1]))
    return Report(rows=tuple(rows), notes=(*errors, *notes_of(findings)), tables=tables)


def _suspect_table(findings: Sequence[Finding], unit: str) -> list[Table]:
    """List the labels that are most likely wrong."""
    rows = [{unit: finding.path, "what": finding.text} for finding in findings if finding.code == "W338"]
    return [Table(title=f"labels that may be wrong, {SUSPECTS} at most", rows=tuple(rows[:SUSPECTS]))] if rows else []
