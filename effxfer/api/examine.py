"""Functions that check data and compare backbones before training."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from effxfer.api.job import stop_if_previewing
from effxfer.api.result import Backbone, Reported
from effxfer.api.sources import Data, PathLike, data_table, inner_table, table_of
from effxfer.artifact import read_manifest
from effxfer.data.listing import Finding, raise_errors
from effxfer.data.settings import DataSettings
from effxfer.model_source import bundled_folder, bundled_models
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
        source: Source of the data set.
        findings: Errors, warnings and notes on single images and classes, errors first.
    """

    source: str
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Findings that prevent training."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    def raise_errors(self) -> None:
        """Raise if there are errors.

        Raises:
            DataError: If there are errors; the message is the first one and the number of others.
        """
        raise_errors(self.findings, self.source)


@dataclass(frozen=True, kw_only=True, repr=False)
class Ranking(Reported):
    """Backbones in the order of a transferability score.

    Attributes:
        page: Path of the report page; None without `out`.
    """

    page: Path | None = None

    @property
    def backbones(self) -> tuple[str, ...]:
        """Names of the backbones, the best one first."""
        return tuple(str(row["backbone"]) for row in self.report.tables[0].rows)

    def facts(self) -> dict[str, Any]:
        """Return the path of the page, if there is one."""
        return {"page": self.page} if self.page else {}


@dataclass(frozen=True, kw_only=True, repr=False)
class ModelList(Reported):
    """Names of backbones for `load` and the other functions."""

    @property
    def names(self) -> tuple[str, ...]:
        """Sources of the backbones."""
        return tuple(str(row["backbone"]) for row in self.report.tables[0].rows)


def check(
    data: Data, *, out: PathLike | None = None, suspects: str = "", device: str = "auto",
    settings: Mapping[str, Any] | None = None, **extra: Any,
) -> DataCheck:  # fmt: skip
    """Audit a data set: unreadable images, damaged texts, leaks between splits, labels that may be wrong.

    Args:
        data: Path, dictionary of settings, or what `load_data` returned.
        out: Directory for `data_audit.csv`; None writes no file.
        suspects: Source of a backbone whose features find wrong labels; empty skips this check.
        device: `auto`, `cpu`, `cuda` or `cuda:1`.
        settings: Settings of the data as a dictionary; it overrides keyword arguments.
        extra: Settings of the data by name.

    Returns:
        The report and its findings; its method `raise_errors` raises if there are errors.

    Raises:
        DataError: If the source does not exist, or a table cannot be read.
        SettingsError: If `suspects` is given and labels are not one class for each example.

    Examples:
        >>> audit = ex.check("photos", suspects="timm:resnet18")
        >>> [finding.path for finding in audit.findings if finding.code == "W338"]
    """
    from effxfer.data.checks.audit import audit

    table = table_of(settings, extra)
    inner = inner_table(table, "data")
    chosen = build(DataSettings, data_table(data, {**table, **inner}), "data")
    if suspects:
        chosen.require_single_labels("suspects")
    if out:
        keep_out_of(Path(out), [chosen])
    file = check_file_in(Path(out), "data_audit.csv") if out else None
    audited = audit(chosen, extra_checks=partial(_suspects, suspects, chosen, device) if suspects else tuple)
    if file:
        audited.write_csv(file)
    return DataCheck(report=audited.report, source=chosen.source, findings=audited.findings)


def _suspects(source: str, data: DataSettings, device: str) -> Sequence[Finding]:
    """Find labels that may be wrong, by the features of a backbone."""
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
        data: Path, dictionary of settings, or what `load_data` returned.
        backbones: One or more names or paths, or what `load` returned.
        by: Score to sort by: `linear`, `neighbours`, `logme`, `nleep` or `h_score`; `linear` if None.
        size: Side of the input images in pixels; None for the input size of each backbone.
        out: Directory for the report page `rank.html`; None writes no page.
        seed: Random seed of the choice of images and of the folds; 0 if None.
        device: `auto`, `cpu`, `cuda` or `cuda:1`.
        command: Command to show on the page; empty for none.
        settings: More settings as a dictionary; it overrides keyword arguments.
        extra: More settings by name.

    Returns:
        The ranking; its attribute `backbones` lists the names, best first.

    Raises:
        SettingsError: If a backbone does not exist, or is named twice, or labels are not one class for each example.
        DataError: If the data cannot be loaded.

    Examples:
        >>> ranking = ex.rank("photos", ["timm:resnet18", "timm:mobilenetv2_100"], by="logme")
        >>> ranking.backbones[0]
    """
    sources = [one.settings.plain() if isinstance(one, Backbone) else os.fspath(one) for one in backbones]
    table = table_of(settings, extra, backbones=sources or None, by=by, size=size, seed=seed)
    task = build(DataSettings, data_table(data, inner_table(table, "data")), "data")
    task.require_single_labels("rank")
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
    """List the bundled backbones, or backbones of timm or torchvision.

    Args:
        pattern: Shell pattern of names, such as `mobilenet*`; empty lists the bundled backbones.
        library: `timm` or `torchvision`.

    Returns:
        The list; its attribute `names` holds the sources.

    Raises:
        SettingsError: If there is no such library.

    Examples:
        >>> ex.list_models("mobilenetv4*").names
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
    input, classes = manifest["preprocess"], manifest["classes"]
    # Without classes the accuracy is that of a task of pretraining, such as masked tokens.
    accuracy = Report.from_json(manifest["report"]).get("accuracy/test") if classes else None
    unit = "tokens" if input.get("kind") == "text" else "px"
    return {"backbone": name, "input": f"{input['size']} {unit}", "classes": len(classes), "test %": accuracy}


def _preview(settings: Rank, task: DataSettings) -> dict[str, Any]:
    from effxfer.data.load import scan
    from effxfer.stages.runner.checks import NOT_CHECKED, check_settings

    check_settings(settings)
    scan(task)
    return {"stage": "rank", "data": task.plain(), "settings": settings.plain(), "note": NOT_CHECKED}
