"""Results of the API's functions: reports that print themselves, with the files that they describe."""

from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effxfer import adapter_file, model_source
from effxfer.adapter_file import AdapterFile
from effxfer.artifact import Artifact, Manifest
from effxfer.net.backbones.trust import trust_sources
from effxfer.net.settings import BackboneSettings
from effxfer.prune.tickets.file import TicketFile
from effxfer.prune.tickets.ticket_report import describe
from effxfer.report import Measurement, Report, Table, cell
from effxfer.runtime.printing import printable
from effxfer.stages.settings.common import FILES

if TYPE_CHECKING:
    from effxfer.net.net import Net

ACCURACIES = ("{}", "{}/int8", "{}/fp32")


@dataclass(frozen=True, kw_only=True, repr=False)
class Reported:
    """Base of all results. `print` shows the report; a notebook shows it as tables.

    Attributes:
        report: Measurements, notes, tables and curves.
    """

    report: Report

    def facts(self) -> dict[str, Any]:
        """Return the paths and digests that are printed above the report, by label."""
        return {}

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain values for `json.dumps`."""
        return {**self.facts(), "report": self.report.to_json()}

    def __getitem__(self, name: str) -> Measurement:
        """Return a measurement by its name, such as `accuracy/val`.

        Raises:
            KeyError: If the report has no measurement of this name.
        """
        return self.report[name]

    def get(self, name: str) -> float | None:
        """Return the value of a measurement by its name; None if the report has none."""
        return self.report.get(name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}{''.join(f' {name}={value!s}' for name, value in self.facts().items())}>"

    def __str__(self) -> str:
        lines = [f"{name}: {printable(value)}" for name, value in self.facts().items()]
        return "\n".join([*lines, str(self.report)])

    def _repr_html_(self) -> str:
        return facts_html(self.facts()) + report_html(self.report)


@dataclass(frozen=True, kw_only=True, repr=False)
class Result(Reported):
    """A model directory, with its report.

    Attributes:
        artifact: The opened directory.
    """

    artifact: Artifact

    @classmethod
    def of(cls, directory: Artifact) -> "Result":
        """Wrap an opened model directory."""
        return cls(report=directory.manifest.report, artifact=directory)

    @property
    def path(self) -> Path:
        """Path of the directory."""
        return self.artifact.path

    @property
    def manifest(self) -> Manifest:
        """Origin of the model: stage, settings, data, classes and versions."""
        return self.artifact.manifest

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the network's outputs."""
        return self.manifest.classes

    @property
    def accuracy(self) -> float | None:
        """Validation accuracy in percent, of the int8 file if there is one; None if it was not measured."""
        return self._accuracy("val")

    @property
    def test_accuracy(self) -> float | None:
        """Test accuracy in percent, for reporting only; None without a test split."""
        return self._accuracy("test")

    @property
    def models(self) -> dict[str, Path]:
        """The exported files by precision, `fp32` and `int8`; empty before `export`."""
        return {name: self.path / file for name, file in FILES.items() if file in self.manifest.files}

    def network(self) -> "Net":
        """Rebuild the network with its weights, in evaluation mode; a `torch.nn.Module`.

        Raises:
            ModelFileError: If the directory holds no network, or names code that is not trusted.
        """
        return self.artifact.net()

    def facts(self) -> dict[str, Any]:
        """Return the path of the directory, and the key of its inputs."""
        return {"model": str(self.path), "key": self.manifest.key}

    def _accuracy(self, split: str) -> float | None:
        values = (self.report.score(name.format(split)) for name in ACCURACIES)
        return next((value for value in values if value is not None), None)


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A pretrained network by name; it is not built before it is used.

    Attributes:
        settings: Source, weights, arguments and input of the network.
    """

    settings: BackboneSettings

    def network(self) -> "Net":
        """Build the network with its weights, in evaluation mode; a `torch.nn.Module`.

        Raises:
            SettingsError: If there is no network of this name.
            ModelFileError: If its weights are absent or do not fit.
        """
        with trust_sources(self.settings.source):
            net, _ = model_source.open_model(self.settings)
        return net.eval()


@dataclass(frozen=True, kw_only=True, repr=False)
class LoadedTicket(Reported):
    """A lottery ticket, with a report on it.

    Attributes:
        path: Path of the ticket file, or of the model directory.
        file: Masks, weights and recipe of the ticket.
    """

    path: Path
    file: TicketFile

    @classmethod
    def of(cls, file: TicketFile, path: Path) -> "LoadedTicket":
        """Describe a ticket."""
        return cls(report=describe(file), path=path, file=file)

    @property
    def digest(self) -> str:
        """Digest of all inputs of a training of this ticket."""
        return self.file.facts.identity

    @property
    def sparsity(self) -> float:
        """Share of removed weights among the prunable ones, in percent."""
        return self["sparsity/prunable"].value

    def facts(self) -> dict[str, Any]:
        """Return the path and the digest."""
        return {"ticket": str(self.path), "digest": self.digest}

    def to_json(self) -> dict[str, Any]:
        """Return the path, the digest and the facts of the ticket as plain values."""
        return {**self.facts(), **asdict(self.file.facts)}


@dataclass(frozen=True, kw_only=True, repr=False)
class LoadedAdapter(Reported):
    """An adapter, with a report on it.

    Attributes:
        path: Path of the adapter file, or of the model directory.
        file: Facts and tensors of the adapter.
    """

    path: Path
    file: AdapterFile

    @classmethod
    def of(cls, file: AdapterFile, path: Path) -> "LoadedAdapter":
        """Describe an adapter."""
        return cls(report=adapter_file.describe(file), path=path, file=file)

    @property
    def digest(self) -> str:
        """Digest of all inputs of the adapted network."""
        return self.file.facts.identity

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names of the adapter's head."""
        return tuple(self.file.facts.classes)

    def facts(self) -> dict[str, Any]:
        """Return the path and the digest."""
        return {"adapter": str(self.path), "digest": self.digest}

    def to_json(self) -> dict[str, Any]:
        """Return the path, the digest and the facts of the adapter as plain values."""
        return {**self.facts(), **asdict(self.file.facts)}


def report_html(report: Report) -> str:
    """Format a report as HTML for a notebook; every text is escaped."""
    rows = [{"measurement": row.name, "value": str(row)} for row in report.rows]
    tables = [Table(title="", rows=tuple(rows))] if rows else []
    notes = "".join(f"<li>{_text(note)}</li>" for note in report.notes)
    body = "".join(map(table_html, [*tables, *report.tables]))
    return body + (f"<ul>{notes}</ul>" if notes else "")


def table_html(table: Table) -> str:
    """Format a table as HTML, with its title as the caption."""
    columns = list(table.rows[0]) if table.rows else []
    head = "".join(f"<th>{_text(column)}</th>" for column in columns)
    body = "".join(
        f"<tr>{''.join(f'<td>{_text(cell(row[name]))}</td>' for name in columns)}</tr>" for row in table.rows
    )
    caption = f"<caption>{_text(table.title)}</caption>" if table.title else ""
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def facts_html(facts: dict[str, Any]) -> str:
    """Format paths and digests as one HTML paragraph."""
    lines = "<br>".join(f"{_text(name)}: <code>{_text(value)}</code>" for name, value in facts.items())
    return f"<p>{lines}</p>" if lines else ""


def _text(value: object) -> str:
    return escape(printable(value))
