"""Functions that diagnose this machine and exported models."""

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
    """Diagnosis of this machine or of an exported model.

    Attributes:
        checks: Checks of the machine; empty for a model.
        findings: Reasons why the model is slow, the largest expected gain first; empty for the machine.
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
        model: Result of `export`, its directory, or an `.onnx` file of any origin; None for the machine.
        threads: Threads of ONNX Runtime; 1 if None.
        batch: Images per call; 1 if None.
        size: Size of free axes other than the batch; None for the size in the file.
        max_seconds: Time limit of all comparisons; 30 if None.
        top: Number of slowest kernels to list; 12 if None.

    Returns:
        The diagnosis, with findings for a model and checks for the machine.

    Raises:
        SettingsError: If a setting of the model is passed without a model.
        ModelFileError: If the model is absent or damaged, or does not run.

    Examples:
        >>> print(ex.doctor("runs/onnx", threads=4))
        >>> ex.doctor().usable
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
    """Report the CPUs on which an exported model predicts the same classes.

    Args:
        model: Result of `export`, its directory, or an exported `.onnx` file.
        data: Path, dictionary of settings, or what `load_data` returned; only its validation split is used.
        images: Number of validation images.
        emulate: CPUs to emulate with QEMU: `avx2`, `sse`, `arm64`, `arm64-dot`.
        arm_root: Root folder of ARM programs for the ARM CPUs; `benchmarks/arm64_root.sh` makes one.
        settings: Settings of the data as a dictionary; it overrides keyword arguments.
        extra: Settings of the data by name.

    Returns:
        A report with a table of the CPUs.

    Raises:
        SettingsError: If there is no such CPU, or an ARM CPU needs `arm_root`.
        ResourceError: If QEMU is not installed, or takes too long.
        ModelFileError: If the model is absent or damaged, or resizes images itself.
        DataError: If the data cannot be loaded.

    Examples:
        >>> print(ex.check_cpus("runs/int8", "photos", images=64, emulate=["avx2"]))
    """
    from effxfer.deploy.cpu.emulator import check_on_cpus

    chosen = build(DataSettings, data_table(data, table_of(settings, extra)), "data")
    root = Path(arm_root) if arm_root else None
    return Reported(report=check_on_cpus(path_of(model), chosen, images=images, names=emulate, root=root))
