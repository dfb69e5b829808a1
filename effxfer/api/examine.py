"""Functions that look at data and backbones before anything is trained."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from effxfer.api.job import stop_if_previewing
from effxfer.api.result import Backbone, Reported
from effxfer.api.sources import Data, PathLike, data_table, inner_table, table_of
from effxfer.artifact import bundled_folder, bundled_models, read_manifest
from effxfer.data.listing import Finding, raise_errors
from effxfer.data.settings import DataSettings
from effxfer.net.settings import BackboneSettings
from effxfer.report import Report, Table
from effxfer.settings import build
from effxfer.stages.runner.context import RunContext
from effxfer.stages.runner.output_dir import check_file_in, keep_out_of
from effxfer.stages.settings.common import Rank


@dataclass(frozen=True, kw_only=True, repr=False)
class DataCheck(Reported):
    """An audit of a data set.

    Attributes:
        source: The data set.
        findings: Errors, warnings and notes on single images and classes, errors first.
    """

    source: str
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Findings that stop a training."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    def raise_errors(self) -> None:
        """Raise if there are errors.

        Raises:
            DataError: With the first of them and a count of the others.
        """
        raise_errors(self.findings, self.source)


@dataclass(frozen=True, kw_only=True, repr=False)
class Ranking(Reported):
    """Backbones in the order of a transferability score.

    Attributes:
        page: The page that was written; None if none was asked for.
    """

    page: Path | None = None

    @property
    def backbones(self) -> tuple[str, ...]:
        """Names of the backbones, the best one first."""
        return tuple(str(row["backbone"]) for row in self.report.tables[0].rows)

    def facts(self) -> dict[str, Any]:
        """Return the page, if there is one."""
        return {"page": self.page} if self.page else {}


@dataclass(frozen=True, kw_only=True, repr=False)
class ModelList(Reported):
    """Backbones that can be named as a source."""

    @property
    def names(self) -> tuple[str, ...]:
        """What `load` takes."""
        return tuple(str(row["backbone"]) for row in self.report.tables[0].rows)


def check(
    data: Data, *, out: PathLike | None = None, suspects: str = "", device: str = "auto",
    settings: Mapping[str, Any] | None = None, **extra: Any,
) -> DataCheck:  # fmt: skip
    """Audit a data set: unreadable images, leaks between splits, odd layouts, labels that may be wrong.

    Args:
        data: A path, a settings table or what `load_data` returned.
        out: Write `data_audit.csv` into this directory; None writes nothing.
        suspects: A backbone by whose features labels that may be wrong are found; empty does not look for them.
        device: `auto`, `cpu`, `cuda` or `cuda:1`.
        settings: Settings of data as a table; a value here wins over the same keyword.
        extra: Settings of data by name.

    Returns:
        The report and its findings; `raise_errors` raises if there are errors.

    Raises:
        DataError: If there is no such source, or a table cannot be read.
    """
    from effxfer.data.checks.audit import audit

    table = table_of(settings, extra)
    inner = inner_table(table, "data")
    chosen = build(DataSettings, data_table(data, {**table, **inner}), "data")
    if out:
        keep_out_of(Path(out), [chosen])
    file = check_file_in(Path(out), "data_audit.csv") if out else None
    audited = audit(chosen, extra_checks=partial(_suspects, suspects, chosen, device) if suspects else tuple)
    if file:
        audited.write_csv(file)
    return DataCheck(report=audited.report, source=chosen.source, findings=audited.findings)


def _suspects(source: str, data: DataSettings, device: str) -> Sequence[Finding]:
    """Find labels that may be wrong by a backbone's features."""
    from effxfer.stages.data.mislabelled import find_mislabelled

    backbone = build(BackboneSettings, {"source": source}, "backbone")
    return find_mislabelled(backbone, data, RunContext(out=Path("check"), device=device))


def rank(
    data: Data, backbones: Sequence[PathLike | Backbone], *, by: str | None = None, size: int | None = None,
    out: PathLike | None = None, seed: int | None = None, device: str = "auto", command: str = "",
    settings: Mapping[str, Any] | None = None, **extra: Any,
) -> Ranking:  # fmt: skip
    """Compare backbones on a task before training: transferability scores against measured latency.

    Args:
        data: A path, a settings table or what `load_data` returned.
        backbones: At least one name, path, or what `load` returned for a name.
        by: Order by `linear`, `neighbours`, `logme`, `nleep` or `h_score`; `linear` if None.
        size: Side of the images in pixels; that of each backbone if None.
        out: Write `rank.html` into this directory; None writes nothing.
        seed: Of the choice of images and of folds; 0 if None.
        device: `auto`, `cpu`, `cuda` or `cuda:1`.
        command: What the page says it was made by.
        settings: Other settings as a table; a value here wins over the same keyword.
        extra: Other settings by name.

    Raises:
        SettingsError: If a backbone does not exist, or two are the same.
        DataError: If the data cannot be loaded.
    """
    sources = [one.settings.plain() if isinstance(one, Backbone) else os.fspath(one) for one in backbones]
    table = table_of(settings, extra, backbones=sources or None, by=by, size=size, seed=seed)
    task = build(DataSettings, data_table(data, inner_table(table, "data")), "data")
    chosen = build(Rank, table, "rank")
    file = check_file_in(Path(out), "rank.html") if out else None
    stop_if_previewing(lambda: _preview(chosen, task))
    from effxfer.stages.data.rank_backbones import rank as rank_backbones

    report = rank_backbones(chosen, task, RunContext(out=Path(out or "rank"), device=device))
    if file:
        from effxfer.benchmark.machine.facts import facts
        from effxfer.page.page import Section, write_page

        section = Section(title="rank", report=report, command=command)
        title = f"Backbones for {Path(task.source).name}"
        write_page(file, title=title, sections=[section], summary=report.tables[0], facts=facts())
    return Ranking(report=report, page=file)


def list_models(pattern: str = "", *, library: str = "timm") -> ModelList:
    """List the bundled backbones, or those of timm and torchvision.

    Args:
        pattern: Of names, such as `mobilenet*`; empty lists the bundled ones.
        library: `timm` or `torchvision`.

    Raises:
        SettingsError: If there is no such library.
    """
    if not pattern:
        note = "`effxfer models 'mobilenet*'` lists matching timm models"
        table = Table(title="Bundled", rows=tuple(map(_bundled_row, bundled_models())))
        return ModelList(report=Report(tables=(table,), notes=(note,)))
    from effxfer.net.backbones.architectures import names

    matches = tuple({"backbone": f"{library}:{name}"} for name in names(library, pattern))
    return ModelList(report=Report(tables=(Table(title=f"{len(matches)} networks of {library}", rows=matches),)))


def _bundled_row(name: str) -> dict[str, Any]:
    manifest = read_manifest(bundled_folder("models") / name)
    return {
        "backbone": name,
        "input": f"{manifest['preprocess']['size']} px",
        "classes": len(manifest["classes"]),
        "test %": Report.from_json(manifest["report"]).get("accuracy/test"),
    }


def _preview(settings: Rank, task: DataSettings) -> dict[str, Any]:
    from effxfer.data.load import scan
    from effxfer.stages.runner.checks import NOT_CHECKED, check_settings

    check_settings(settings)
    scan(task)
    return {"stage": "rank", "data": task.plain(), "settings": settings.plain(), "note": NOT_CHECKED}
