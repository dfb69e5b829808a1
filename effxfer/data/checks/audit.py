"""An audit of a data set before anything is trained on it: every file is decoded, and nothing stops at the first fault.

Beyond what `scan` finds (layout, tables, splits), the audit finds

* `E301` not an image, `E302` truncated or damaged, `E304` no defined range, `E306` needs a package, `E307` too large,
* `W303` a decoder's complaint, `W304` 16 bits, `W305` several frames, `W308` tiny or extremely long,
* `W381` another colour type, `W382` transparency, `W383` EXIF rotation, `W384` a name that belies the format,
* `E320` equal pixels in two splits, even if the files differ,
* `W385` so wide or tall that a centre crop loses more than half of it,
* `W338` labels that may be wrong, where it is passed what finds them.

Damage that a JPEG decoder can paper over (a flipped bit in the scan) is not found: Pillow hides libjpeg's warnings.
"""

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from effxfer.data.checks.leaks import leaks
from effxfer.data.checks.unread import LEFT_OUT, REPAIR, emptied
from effxfer.data.decoded import decode
from effxfer.data.listing import SPLITS, Finding, Item, Listing, notes_of, summed
from effxfer.data.load import survey
from effxfer.data.settings import DataSettings
from effxfer.data.target import aimed_at
from effxfer.errors import DataError
from effxfer.files import write_atomic
from effxfer.report import Measurement, Report, Table
from effxfer.runtime.images.names import SUFFIX_OF
from effxfer.runtime.images.preprocess import ImageError, ImageFacts
from effxfer.runtime.printing import csv_cell

SUSPECTS = 50
COLUMNS = ("path", "code", "severity", "text", "hint")
PLAIN_MODES = frozenset({"RGB", "L"})


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What is worth knowing about a data set.

    Attributes:
        findings: Errors first, then warnings, then notes.
        report: Counts, the balance of the classes, and a sentence for each kind of warning.
        listing: What was looked at.
    """

    findings: tuple[Finding, ...]
    report: Report
    listing: Listing

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Findings that stop a training."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    def rows(self) -> list[dict[str, str]]:
        """Give the findings as rows of `data_audit.csv`: path, code, severity, text, hint."""
        return [{column: str(getattr(finding, column)) for column in COLUMNS} for finding in self.findings]

    def write_csv(self, file: Path) -> Path:
        """Write `rows` as a CSV file (UTF-8), atomically; before what looks like a formula stands `'` (`csv_cell`)."""
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, COLUMNS)
        table.writeheader()
        table.writerows({name: csv_cell(value) for name, value in row.items()} for row in self.rows())
        return write_atomic(file, text.getvalue().encode("utf-8", "backslashreplace"))


class _Seen(NamedTuple):
    """What decoding one image brought: findings, and a digest of its pixels (empty if unreadable)."""

    findings: list[Finding]
    content: str


def audit(
    settings: DataSettings,
    base: Path = Path(),
    *,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    also: Callable[[], Sequence[Finding]] = tuple,
) -> Audit:
    """Look at every file of a data set.

    Args:
        settings: The data set.
        base: Folder that a relative source starts from.
        cache: Where digests of unchanged files are remembered; None is `$EFFXFER_CACHE` or `~/.cache/effxfer`.
        progress: Called with images looked at and in all.
        also: Finds what cannot be seen file by file; called where there are no errors.

    Raises:
        DataError: Only if there is nothing to look at: no such source, or a table that cannot be read.
    """
    listing = survey(settings, base, cache=cache)
    seen = _look(listing, settings, progress)
    decoded = [finding for one in seen for finding in one.findings]
    findings = [*listing.findings, *decoded, *_left_out(listing, decoded), *_twins(listing, seen, settings)]
    findings += _of_target(listing, settings, base, cache)
    if not any(finding.severity == "error" for finding in findings):
        findings += also()
    ranks = {"error": 0, "warning": 1, "note": 2}
    findings.sort(key=lambda finding: ranks[finding.severity])
    return Audit(findings=tuple(findings), report=_report(listing, findings, decoded), listing=listing)


def _look(listing: Listing, settings: DataSettings, progress: Callable[[int, int], None] | None) -> list[_Seen]:
    items, done = listing.everything, 0
    seen = [_Seen([], "")] * len(items)
    workers = decode.threads(settings.workers, decode.typical_side(listing.root, items, settings.max_pixels))
    for batch in decode.run(lambda item: _one(listing.root, item, settings), items, workers):
        for position, result in batch:
            seen[position] = result
        done += len(batch)
        if progress:
            progress(done, len(items))
    return seen


def _one(root: Path | None, item: Item, settings: DataSettings) -> _Seen:
    try:
        decoded = decode.decode_item(root, item, settings.max_pixels)
    except ImageError as error:
        severity = "warning" if settings.skip_bad else "error"
        hint = error.hint or REPAIR
        text = f"{error.problem}, left out" if settings.skip_bad else error.problem
        bad = Finding(code=error.code, severity=severity, path=item.path, text=text, hint=hint, group=LEFT_OUT)  # type: ignore[arg-type]
        return _Seen([bad], "")
    image = decoded.image
    content = hashlib.blake2b(f"{image.size}".encode() + image.tobytes(), digest_size=16).hexdigest()
    warnings = [
        Finding(code=code, severity="warning", path=item.path, text=f"{text}: {detail}", group=text)
        for code, detail in decode.kinds(decoded).items()
        for text in (decode.KINDS[code],)
    ]
    return _Seen([*warnings, *_conversions(item, decoded.facts)], content)


def _left_out(listing: Listing, decoded: Sequence[Finding]) -> list[Finding]:
    """Refuse classes that lose all their training images where unreadable ones are left out."""
    lost = {finding.path for finding in decoded if finding.group == LEFT_OUT}
    return emptied(listing.classes, listing.split("train"), lost) if lost else []


def _of_target(listing: Listing, settings: DataSettings, base: Path, cache: Path | None) -> list[Finding]:
    """Look at where the network is to work, too, and at whether it fits."""
    if settings.target is None:
        return []
    there = audit(settings.target, base, cache=cache)
    found = [replace(one, path=f"{settings.target.source}/{one.path}".rstrip("/")) for one in there.findings]
    try:
        aimed_at(listing, there.listing, settings)
    except DataError as error:
        found.append(Finding(code=error.code, severity="error", path="", text=error.problem, hint=error.hint))
    return found


def _conversions(item: Item, facts: ImageFacts) -> list[Finding]:
    if facts.format == "builtin":
        return []
    told = []
    usual = facts.mode in PLAIN_MODES or facts.format == "GIF" or facts.bits == 16
    if not usual and not facts.alpha:
        told.append(("W381", f"converted from {facts.mode} to RGB"))
    if facts.alpha:
        told.append(("W382", "transparency composited on white"))
    if facts.rotated:
        told.append(("W383", "turned upright by its EXIF orientation"))
    if not item.path.lower().endswith(SUFFIX_OF.get(facts.format, ())):
        told.append(("W384", f"named otherwise, but is {facts.format}"))
    return [Finding(code=code, severity="note", path=item.path, text=text) for code, text in told]


def _twins(listing: Listing, seen: Sequence[_Seen], settings: DataSettings) -> list[Finding]:
    """Find equal pixels in two splits, where the files differ; an error where the splits were given."""
    content = {item.path: one.content for item, one in zip(listing.everything, seen, strict=True) if one.content}
    known = {finding.path for finding in listing.findings if finding.code == "E320"}
    made_here = any(finding.code == "W339" for finding in listing.findings)
    found = leaks(listing.items, content, "same pixels", "warning" if settings.allow_leakage or made_here else "error")
    return [finding for finding in found if finding.path not in known]


def _report(listing: Listing, findings: Sequence[Finding], decoded: Sequence[Finding]) -> Report:
    severities = Counter(finding.severity for finding in findings)
    total, unreadable = len(listing.everything), sum(finding.code.startswith("E") for finding in decoded)
    rows = [
        Measurement(name="images", value=len(listing.items)),
        *(Measurement(name=f"images/{split}", value=len(listing.split(split))) for split in SPLITS),
        Measurement(name="classes", value=len(listing.classes)),
        Measurement(name="unreadable", value=100 * unreadable / max(1, total), unit="%", n=total, of="images"),
        *(Measurement(name=f"{name}s", value=severities[name]) for name in ("error", "warning", "note")),
        *_imbalance(listing),
    ]
    codes: dict[str, list[Finding]] = {}
    for finding in findings:
        if finding.severity == "error":
            codes.setdefault(finding.code, []).append(finding)
    errors = [f"{code} {summed(same)}" for code, same in codes.items()]
    tables = (_balance(listing), *_suspects(findings))
    return Report(rows=tuple(rows), notes=(*errors, *notes_of(findings)), tables=tables)


def _imbalance(listing: Listing) -> list[Measurement]:
    """Give how many times more training images the largest class has than the smallest."""
    sizes = Counter(item.label for item in listing.split("train"))
    if not sizes:
        return []
    return [Measurement(name="imbalance", value=max(sizes.values()) / min(sizes.values()), unit="x", n=len(sizes))]


def _suspects(findings: Sequence[Finding]) -> list[Table]:
    """List the labels that are likeliest wrong."""
    rows = [{"image": finding.path, "what": finding.text} for finding in findings if finding.code == "W338"]
    return [Table(title=f"labels that may be wrong, {SUSPECTS} at most", rows=tuple(rows[:SUSPECTS]))] if rows else []


def _balance(listing: Listing) -> Table:
    counts = Counter((item.label, item.split) for item in listing.items)
    return Table(
        title="images by class",
        rows=tuple({"class": c} | {split: counts[c, split] for split in SPLITS} for c in listing.classes),
    )
