"""Write the files that servers of Hugging Face can feed, and check them."""

from pathlib import Path

from effxfer.data.task import Task
from effxfer.deploy.export.hf_inputs import write_hf_inputs
from effxfer.deploy.export.hf_parity import check_hf_inputs
from effxfer.deploy.settings import ExportSettings
from effxfer.errors import SettingsError
from effxfer.net.net import Net
from effxfer.report import Report
from effxfer.runtime.inputs import Input
from effxfer.runtime.text.tokens import Tokens
from effxfer.stages.settings.common import FILES, HF_FILES


def require_texts(input: Input, purpose: str) -> Tokens:
    """Return the input of a network that takes texts.

    Raises:
        SettingsError: If it takes something else; `purpose` says who needs texts.
    """
    if not isinstance(input, Tokens):
        raise SettingsError(f"{purpose} needs texts, this network takes {input.unit}", "leave it out")
    return input


def write_hf_files(folder: Path, net: Net, task: Task, settings: ExportSettings) -> Report:
    """Write a file with the inputs of Hugging Face beside each exported file, and compare the two.

    Args:
        folder: Folder of the exported files.
        net: The exported network.
        task: Its validation split checks the files.
        settings: Limits of the checks.

    Raises:
        GateError: If the outputs differ.
    """
    tokens, report = require_texts(net.input, "hf_inputs"), Report()
    for precision, name in FILES.items():
        if not (folder / name).exists():
            continue
        file = write_hf_inputs(folder / name, folder / HF_FILES[precision], tokens)
        report += check_hf_inputs(
            file, folder / name, task.val.rows, task.val.labels, getattr(net.body, "separator", -1),
            output=net.output, precision=precision, max_drop=settings.max_drop, tolerance=settings.tolerance,
            threads=settings.threads,
        )  # fmt: skip
    return report
