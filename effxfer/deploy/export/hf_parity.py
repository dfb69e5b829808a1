"""Check a file with the inputs of Hugging Face against the file of effxfer that it was made from."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from effxfer.deploy.export.hf_inputs import SEGMENTS, hf_feed
from effxfer.deploy.export.logits import distance, open_model
from effxfer.deploy.export.parity import BATCHES, drop_faults, reject, reject_for
from effxfer.deploy.export.text_samples import text_samples
from effxfer.deploy.settings import TOLERANCE
from effxfer.errors import ModelFileError
from effxfer.report import Measurement, Report
from effxfer.runtime.checked_session import join_tasks
from effxfer.runtime.model import BATCH
from effxfer.runtime.multi_task.task_outputs import TaskOutputs
from effxfer.runtime.multi_task.worst_task import main_scores
from effxfer.runtime.outputs.base import Labels, Output
from effxfer.runtime.outputs.single_label import SINGLE_LABEL
from effxfer.runtime.rows import Ragged, map_batches
from effxfer.runtime.session import error_summary, open_session, session_options
from effxfer.runtime.text.tokens import Tokens


class HfFile:
    """A file with the inputs of Hugging Face in ONNX Runtime.

    Args:
        file: The file.
        tokens: Input of the network.
        separator: Id behind each segment.
        output: The kind of its labels; of several tasks the file has an output each.
        threads: Threads of ONNX Runtime; 0 is one per core.

    Raises:
        ModelFileError: If ONNX Runtime refuses the file (E424).
    """

    def __init__(
        self, file: Path, tokens: Tokens, separator: int, output: Output = SINGLE_LABEL, threads: int = 0
    ) -> None:
        try:
            self.session = open_session(file, session_options(threads=threads))
        except Exception as error:  # ONNX Runtime raises its own types
            raise ModelFileError(f"ONNX Runtime refuses {file}: {error_summary(error)}", code="E424") from error
        names = [tensor.name for tensor in self.session.get_inputs()]
        self.file, self.tokens, self.output = file, tokens, output
        self.separator = separator if SEGMENTS in names else -1

    def logits(self, rows: Ragged, batch: int = BATCH) -> NDArray[np.float32]:
        """Return the outputs `(N, C)` for rows of ids, in batches of unequal lengths; those of all tasks side by side.

        The ids of padding are replaced by another token: a server may pad with any, and the mask must decide alone.
        """

        def run(chunk: Ragged) -> NDArray[np.float32]:
            feed = hf_feed(self.tokens.feed(chunk), self.tokens, self.separator)
            ids, mask = feed["input_ids"], feed["attention_mask"]
            feed["input_ids"] = np.where(mask, ids, ids[0, 0])
            results: list[NDArray[np.float32]] = self.session.run(None, feed)
            if isinstance(self.output, TaskOutputs):
                return join_tasks(self.output, results, self.file)
            return results[0]

        return map_batches(rows, batch, run, 0)


def check_hf_inputs(
    hf_file: Path, file: Path, rows: Ragged, labels: Labels, separator: int, *, output: Output, precision: str,
    max_drop: float = 1.0, tolerance: float = TOLERANCE, batches: Sequence[int] = BATCHES, threads: int = 0,
) -> Report:  # fmt: skip
    """Accept a file with the inputs of Hugging Face, or rename it and raise.

    Args:
        hf_file: The file.
        file: The file of one input that it was made from.
        rows: Ids of the whole validation split.
        labels: Their labels.
        separator: Id behind each segment.
        output: The kind of the labels.
        precision: Of both files. Ranges of dynamic int8 include padding, whose segments differ: of int8 the main metric
            decides alone.
        max_drop: Points of the main metric that it may lose.
        tolerance: Largest difference of a logit in float32, as a share of the largest logit (of 1, if all are smaller).
        batches: Batch sizes to compare.
        threads: Threads of ONNX Runtime; 0 is one per core.

    Returns:
        `hf/batchB/PRECISION` and `hf/lengthL/PRECISION`: largest absolute difference of a logit at each batch size and
        length, and `METRIC/hf/PRECISION`, of several tasks also `METRIC/hf/TASK/PRECISION`.

    Raises:
        GateError: With the figures (E601); the file is renamed to `*.rejected`.
        ModelFileError: If a file cannot be opened; it is renamed too.
    """
    model = open_model(file, threads)
    try:
        opened = HfFile(hf_file, model.tokens, separator, output, threads)
    except ModelFileError:
        reject(hf_file)
        raise
    samples = text_samples(rows, batches, model.tokens.size)
    differences = {
        name: distance(model.logits(sample, batch=len(sample)), opened.logits(sample, len(sample)))
        for name, sample in samples.items()
    }
    expected, got = model.logits(rows), opened.logits(rows)
    report = Report(
        rows=(
            *(
                Measurement(name=f"hf/{name}/{precision}", value=value, n=len(samples[name]))
                for name, value in differences.items()
            ),
            *(
                Measurement.from_score(f"ids/{precision}", each)
                for each in main_scores(output, expected, labels, "texts")
            ),
            *(Measurement.from_score(f"hf/{precision}", each) for each in main_scores(output, got, labels, "texts")),
        )
    )
    allowed = tolerance * max(1.0, float(np.abs(expected).max()))
    wrong = [name for name, value in differences.items() if not value <= allowed] if precision == "fp32" else []
    faults = [f"a logit differs by {differences[name]:.3g} at {name}, allowed are {allowed:.3g}" for name in wrong[:1]]
    faults += drop_faults(report, max_drop, output, (f"ids/{precision}", f"hf/{precision}"))
    reject_for(faults, hf_file, f"differs from {file.name}", "export without hf_inputs", code="E601")
    return report
