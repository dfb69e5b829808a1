"""Checks of tasks that are learned one after another, before any example is decoded."""

from collections.abc import Mapping, Sequence
from typing import Any

from effxfer import model_source
from effxfer.artifact import Artifact
from effxfer.data.listing import Listing
from effxfer.data.several_tables.join_listings import require_different_names
from effxfer.errors import DataError, SettingsError
from effxfer.memory_file import MEMORY, MemoryFile
from effxfer.net.settings import BackboneSettings
from effxfer.stages.runner.source import AdapterOnBase, Source
from effxfer.stages.settings.base import StageSettings


def check_stream(settings: StageSettings, source: Source, listings: Sequence[Listing]) -> None:
    """Check that tasks can be learned one after another, and after those that the network has learned.

    Raises:
        SettingsError: If two tasks have one name, or the network's memory is that of another strategy or scenario.
        DataError: If a class differs from an earlier one by case alone (E381), or does not fit the scenario (E382).
        ModelFileError: If the network's memory is damaged.
    """
    if not settings.in_time:
        return
    require_different_names([listing.name for listing in listings])
    options = getattr(settings, "options", {})
    scenario = str(options.get("scenario", "class"))
    model = model_of(source)
    taught, learned = list[str](), list[Mapping[str, Any]]()
    if model is not None and MEMORY in model.manifest.files:
        facts = MemoryFile.read(model.path / MEMORY).facts
        require_same(facts.facts, str(getattr(settings, "strategy", "")), scenario)
        taught, learned = list(model.manifest.classes), facts.tasks
    earlier = {str(task["name"]): str(task["digest"]) for task in learned}
    for listing in listings:
        if earlier.get(listing.name) == listing.digest:
            continue
        if listing.name in earlier:
            text = f"the network has learned a task {listing.name!r} of other data"
            raise SettingsError(text, "give the new data another name, with `data.name`")
        if taught:
            require_classes(taught, listing.classes, scenario, listing.name)
        taught += [name for name in listing.classes if name not in taught]


def model_of(source: Source) -> Artifact | None:
    """Return the model directory that a source is, or that its backbone names."""
    base = source.base if isinstance(source, AdapterOnBase) else source
    if isinstance(base, Artifact):
        return base
    return model_source.find(base.source) if isinstance(base, BackboneSettings) else None


def require_same(recorded: Mapping[str, Any], strategy: str, scenario: str) -> None:
    """Check that a memory is that of a strategy and a scenario.

    Raises:
        SettingsError: If it is not.
    """
    for name, actual in (("strategy", strategy), ("scenario", scenario)):
        if recorded.get(name) != actual:
            text = f"the network's memory was made with {name} {recorded.get(name)!r}, not {actual!r}"
            raise SettingsError(text, f"go on with {recorded.get(name)!r}, or start from a network without a memory")


def require_classes(earlier: Sequence[str], classes: Sequence[str], scenario: str, name: str) -> None:
    """Check the classes of a task against those of earlier ones.

    Raises:
        DataError: If one differs from a known one by case alone (E381), is new where all tasks have the same classes,
            or known where each has its own (E382).
    """
    folded = {earlier_name.casefold(): earlier_name for earlier_name in earlier}
    for name_of_class in classes:
        earlier_name = folded.get(name_of_class.casefold())
        if earlier_name is not None and earlier_name != name_of_class:
            text = f"class {name_of_class!r} of {name} differs from the earlier class {earlier_name!r} by case alone"
            raise DataError(text, "rename one of them", code="E381")
        if scenario == "domain" and earlier_name is None:
            text = (
                f"class {name_of_class!r} of {name} is new, and in the scenario domain all tasks have the same classes"
            )
            raise DataError(text, "take the scenario class: `options.scenario=class`", code="E382")
        if scenario == "task" and earlier_name is not None:
            text = (
                f"class {name_of_class!r} of {name} is an earlier one, and in the scenario task each task has its own"
            )
            raise DataError(text, "rename it, or take the scenario domain: `options.scenario=domain`", code="E382")
