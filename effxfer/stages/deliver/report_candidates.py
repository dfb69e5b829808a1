"""The models that a report on compression compares, with the examples as each of them reads these.

Shape legend: N examples, C classes, D features.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from effxfer.artifact import Artifact
from effxfer.data.loader import Loader
from effxfer.data.settings import DataSettings
from effxfer.data.several_tables.join_tables import join_tables
from effxfer.data.task import Split, Task
from effxfer.deploy.graph.head_features import head_features
from effxfer.errors import SettingsError
from effxfer.net.net import Net
from effxfer.report import Report
from effxfer.runtime.model import Model
from effxfer.runtime.multi_task.task_outputs import TaskOutputs
from effxfer.runtime.outputs.base import Output
from effxfer.runtime.outputs.masked_token import MaskedToken
from effxfer.runtime.rows import Rows
from effxfer.stages.data.split_history import history_of
from effxfer.stages.runner.context import RunContext
from effxfer.stages.runner.key import list_data
from effxfer.stages.runner.tasks import data_for, load_tasks
from effxfer.stages.settings.common import FILES
from effxfer.stages.settings.transfer_report_settings import TransferReport
from effxfer.stages.train.continual.stream import align_task, join_tasks
from effxfer.stages.train.head import deliver_tasks
from effxfer.stages.train.target_domain import compared_features
from effxfer.stages.train.zero_shot.report import evaluate_file_on_new_classes, evaluate_new_classes
from effxfer.train.devices import pick_device
from effxfer.train.evaluate import predict


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """A model to examine: an exported file, or a network that was not exported.

    Attributes:
        name: Name in the report.
        net: The network; of a file, the one it was exported from.
        task: The data as the network reads them.
        file: The exported file; None for the network itself.
        megabytes: Size of the file, or of float32 weights.
        parts: The tasks that make up the data, where a network learned them one after another.
    """

    name: str
    net: Net
    task: Task
    file: Path | None
    megabytes: float
    parts: tuple[Task, ...] = ()

    def logits(self, rows: Rows) -> NDArray[np.float32]:
        """Compute logits `(N, C)`."""
        if self.file is not None:
            return Model(self.file).logits(rows)
        logits: NDArray[np.float32] = predict(self.net, rows, self.net.input, pick_device("cpu")).numpy()
        return logits

    @property
    def outputs(self) -> dict[str, Output]:
        """The kind of label of each task that the model answers; that of a single one is named ``."""
        output = self.net.output
        return dict(output.outputs) if isinstance(output, TaskOutputs) else {"": output}

    def on_class_embeddings(self) -> Report:
        """Measure new classes that are known by their embeddings alone."""
        if self.file is None:
            return evaluate_new_classes(self.net, self.task, pick_device("cpu"))
        return evaluate_file_on_new_classes(Model(self.file), self.task, self.net)

    def features(self, split: Split) -> torch.Tensor:
        """Compute what new classes are distinguished by, `(N, D)`."""
        if self.file is None:
            return compared_features(self.net, split, pick_device("cpu"))
        model = Model(self.file)
        if model.takes_prototypes:
            return torch.from_numpy(model.features_of(split.rows))
        return torch.from_numpy(head_features(self.file, split.rows))


def candidates_of(name: str, model: Artifact, data: Sequence[DataSettings]) -> Iterator[Candidate]:
    """Yield the exported files of a model directory, float32 and int8, or its network if it has none.

    Args:
        name: Name of the model in the report.
        model: The model directory.
        data: Data with the classes of the model; empty for those of its last stage.

    Raises:
        SettingsError: If its classes are not those of the data, or it guesses masked tokens.
        DataError: If the data cannot be used, or hold other tasks than the network answers.
    """
    net = model.net()
    if isinstance(net.output, MaskedToken):
        raise SettingsError(f"{name} answers no question yet: it guesses masked tokens", "finetune it first")
    task, parts = _load(net, model, data)
    if net.output.classes != task.classes:
        names = ", ".join(net.output.classes)
        raise SettingsError(f"{name} has other classes than the data: {names}", "give data of its classes")
    files = {key: model.path / file for key, file in FILES.items() if file in model.manifest.files}
    for precision, file in files.items():
        yield Candidate(
            name=f"{name} {precision}", net=net, task=task, file=file, megabytes=file.stat().st_size / 1e6, parts=parts
        )  # fmt: skip
    if not files:
        weights = sum(weight.numel() for weight in net.parameters()) * 4 / 1e6
        yield Candidate(name=name, net=net, task=task, file=None, megabytes=weights, parts=parts)


def _load(net: Net, model: Artifact, data: Sequence[DataSettings]) -> tuple[Task, tuple[Task, ...]]:
    """Return the data of a network, whose auxiliary heads are removed, and the tasks in time that they consist of."""
    settings, history = data or data_for(model, {}), history_of(model, TransferReport())
    has_tasks = isinstance(net.output, TaskOutputs) or any(edit["kind"] == "keep_tasks" for edit in net.edits)
    if has_tasks:
        context = RunContext(out=Path("report"))
        listings = list_data(TransferReport(), model, settings, context)
        tables = load_tasks(settings, listings, net.input, context, history, in_time=False)
        return deliver_tasks(net, join_tables(tables) if len(tables) > 1 else tables[0]), ()
    tasks = [Loader(settings=each, history=history).load(net.input) for each in settings]
    parts = tuple(align_task(each, net.classes) for each in tasks if set(each.classes) <= set(net.classes))
    if len(tasks) == len(parts) > 1:
        return join_tasks(parts, training=False), parts
    return tasks[-1], ()
