"""Where a stage may write: never over something that effxfer did not write, never into a data set."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from effxfer.artifact import MANIFEST, WEIGHTS, read_manifest
from effxfer.data.settings import DataSettings
from effxfer.errors import ModelFileError, SettingsError
from effxfer.stages.settings import FILES, METRICS


def keep_out_of(out: Path, data: Sequence[DataSettings]) -> None:
    """Refuse to write into a data set.

    Raises:
        SettingsError: If the output directory is a source of images, or lies below one.
    """
    sources = [*data, *(one.target for one in data if one.target)]
    for source in (Path(one.source).expanduser() for one in sources):
        if source.is_dir() and out.resolve().is_relative_to(source.resolve()):
            text = f"{out} lies inside the data set {source}, where it would be taken for a class"
            raise SettingsError(text, "give an --out elsewhere", code="E211")


def check_ours(out: Path) -> None:
    """Refuse to replace what effxfer did not write, also under `force`.

    Raises:
        SettingsError: If the output directory holds a file that no manifest lists.
    """
    if not out.exists():
        return
    known = {MANIFEST, WEIGHTS, METRICS, *FILES.values()}
    with suppress(ModelFileError):
        known |= set(read_manifest(out)["files"])
    foreign = [path for path in sorted(out.rglob("*")) if str(path.relative_to(out)) not in known]
    if foreign or not out.is_dir():
        what = f"holds {foreign[0].name}, which effxfer did not write" if foreign else "is not a directory"
        raise SettingsError(f"{out} {what}", "give another --out", code="E211")
