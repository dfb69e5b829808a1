"""Functions that look at what is there already: this machine, and exported models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effxfer.api.result import Reported, Result
from effxfer.api.sources import Data, PathLike, data_table, path_of, table_of
from effxfer.data.settings import DataSettings
from effxfer.errors import SettingsError
from effxfer.settings import build

if TYPE_CHECKING:
    from effxfer.benchmark.machine.doctor import Check
    from effxfer.deploy.diagnose.findings import Finding


@dataclass(frozen=True, kw_only=True, repr=False)
class Diagnosis(Reported):
    """What `doctor` saw of this machine, or of a model.

    Attributes:
        checks: Of the machine; empty for a model.
        findings: Why the model is not faster, the largest expected gain first; empty for the machine.
    """

    checks: "tuple[Check, ...]" = ()
    findings: "tuple[Finding, ...]" = ()

    @property
    def usable(self) -> bool:
        """Whether no check of the machine failed."""
        return all(check.status != "fail" for check in self.checks)


def doctor(
    model: PathLike | Result | None = None, *, threads: int | None = None, batch: int | None = None,
    size: int | None = None, max_seconds: float | None = None, top: int | None = None,
) -> Diagnosis:  # fmt: skip
    """Explain why an exported model is slow; without a model, check this machine.

    Args:
        model: A result of `export`, its directory, or an `.onnx` file of any origin; None for the machine.
        threads: Threads of ONNX Runtime; 1 if None.
        batch: Images per call; 1 if None.
        size: Value of free axes other than the batch; that of the file if None.
        max_seconds: Time for all comparisons; 30 if None.
        top: Slowest kernels to list; 12 if None.

    Raises:
        SettingsError: If there is no model that a setting could be for.
        ModelFileError: If the model is absent, damaged, or cannot be run.
    """
    settings = table_of(None, {}, threads=threads, batch=batch, size=size, max_seconds=max_seconds, top=top)
    if model is None:
        if settings:
            raise SettingsError(f"`{min(settings)}` needs a model", "name an .onnx file")
        from effxfer.benchmark.machine.doctor import diagnose

        report, checks = diagnose()
        return Diagnosis(report=report, checks=tuple(checks))
    from effxfer.benchmark.untrusted.vet import locate
    from effxfer.deploy.diagnose.model_report import examine

    report, findings = examine(locate(path_of(model)), **settings)
    return Diagnosis(report=report, findings=tuple(findings))


def check_cpus(
    model: PathLike | Result, data: Data | None = None, *, images: int = 32, emulate: Sequence[str] = (),
    arm_root: PathLike | None = None, settings: Mapping[str, Any] | None = None, **extra: Any,
) -> Reported:  # fmt: skip
    """Report on which CPUs an exported model predicts the same.

    Args:
        model: A result of `export`, its directory, or an `.onnx` file that was exported.
        data: As `load_data` takes it; its validation split is used.
        images: Images of it.
        emulate: CPUs to run the model on by QEMU: `avx2`, `sse`, `arm64`, `arm64-dot`.
        arm_root: For those of ARM, the folder that `benchmarks/arm64_root.sh` makes.
        settings: Settings of data as a table; a value here wins over the same keyword.
        extra: Settings of data by name.

    Raises:
        SettingsError: If there is no such CPU, or `arm_root` is needed.
        ResourceError: If QEMU is not installed, or takes too long.
        ModelFileError: If the model is absent, damaged, or resizes images itself.
        DataError: If the data cannot be loaded.
    """
    from effxfer.deploy.cpu.emulator import check_on_cpus

    chosen = build(DataSettings, data_table(data, table_of(settings, extra)), "data")
    root = Path(arm_root) if arm_root else None
    return Reported(report=check_on_cpus(path_of(model), chosen, images=images, names=emulate, root=root))
