"""The key of a stage's result: a digest of all inputs that determine it."""

from collections.abc import Mapping, Sequence
from typing import Any

from effxfer import artifact, model_source
from effxfer.artifact import Artifact
from effxfer.data.listing import Listing
from effxfer.data.load import require_unit, scan
from effxfer.data.settings import DataSettings
from effxfer.data.several_tables.join_listings import join_listings
from effxfer.runtime.inputs import INPUTS
from effxfer.settings import Settings
from effxfer.stages.data.split_history import history_of, learned_in_time, next_history
from effxfer.stages.runner.context import RunContext
from effxfer.stages.runner.source import Source, input_kind, parent_of
from effxfer.stages.settings.base import StageSettings

# Settings that no longer exist count with their defaults, so that results that were made with them stay valid.
REMOVED = {"export": {"mixed_seconds": 60.0, "tune": False, "tune_seconds": 20.0}}
# Settings whose default is None now count with their former default, for the same reason.
FORMER_DEFAULTS = {"search": {"metric": "accuracy"}}
# Settings that came later count only where they differ from their default, again for that reason.
ADDED: dict[str, dict[str, Any]] = {
    "compete": {"validator": "source"},
    "bench": {"max_class_drop": None},
    "export": {
        "hf_inputs": False,
        "images": True,
        "max_class_drop": None,
        "runtime": "onnxruntime",
        "tokenizers_web": None,
    },
    "shrink": {"if_none": "fail", "int8_drop": None, "runtime": "onnxruntime"},
    "transfer_report": {"max_drop": None},
}


def stage_key(
    name: str, settings: StageSettings, source: Source, data: Sequence[DataSettings], context: RunContext
) -> str:
    """Digest all inputs of a stage, without decoding images or loading torch."""
    listings = tasks_of(settings, source, list_data(settings, source, data, context))
    return key_of_listings(name, with_defaults(settings, source, listings), source, listings)


def with_defaults(settings: StageSettings, source: Source, listings: Sequence[Listing]) -> StageSettings:
    """Choose what settings leave to the kind of input and to the data, which the source or the data tell."""
    kinds = {INPUTS[kind].unit: kind for kind in INPUTS}
    units = [listing.unit for listing in listings]
    kind = input_kind(source) or kinds.get(units[-1] if units else "", "image")
    for listing in listings[-1:]:
        settings = settings.for_data(kind, listing.labels, listing.target_kind, listing.typical_count)
    return settings.for_input(kind)


def list_data(
    settings: StageSettings, source: Source, data: Sequence[DataSettings], context: RunContext
) -> list[Listing]:
    """List the examples, labels and splits of each task, without decoding images.

    Raises:
        SettingsError: If they are texts for a network of images, or the other way round, as far as it is known.
    """
    history, kind = history_of(source, settings), input_kind(source)
    listings = list[Listing]()
    for task_settings in data:
        listings.append(scan(task_settings, cache=context.cache, history=history))
        history = next_history(history, listings[-1], in_time=settings.in_time)
    for listing, task_settings in zip(listings, data, strict=True):
        require_unit(listing, INPUTS[kind].unit if kind else listing.unit, task_settings.source)
    return listings


def tasks_of(settings: StageSettings, source: Source, listings: Sequence[Listing]) -> list[Listing]:
    """Return the listings of the tasks that a stage learns: several tables are one, unless they are learned in time.

    Raises:
        SettingsError: If tables cannot be tasks of one network; see `join_listings`.
    """
    if len(listings) < 2 or settings.in_time or learned_in_time(source):
        return list(listings)
    return [join_listings(listings)]


def key_of_listings(name: str, settings: StageSettings, source: Source, listings: Sequence[Listing]) -> str:
    """Digest a stage's settings, its source and its data."""
    identity = settings_identity(settings) | REMOVED.get(name, {})
    identity |= {k: value for k, value in FORMER_DEFAULTS.get(name, {}).items() if identity[k] is None}
    return artifact.key_of(name, _drop_added_defaults(name, identity), [one.key for one in listings], parent_of(source))


def _drop_added_defaults(name: str, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out settings that came later and have their default."""
    added = ADDED.get(name, {})
    return {key: value for key, value in identity.items() if key not in added or value != added[key]}


def settings_identity(settings: StageSettings) -> dict[str, Any]:
    """Return the settings as plain values, with networks identified by the content of their files."""
    plain = settings.plain()
    for name, backbones in settings.networks.items():
        plain[name] = [model_source.identity(backbone) for backbone in backbones]
    teacher = plain.get("teacher") or {}
    # Later than results that have none.
    if not teacher.get("maps", True):
        del teacher["maps"]
    if settings.teacher_network:
        plain["teacher"]["source"] = model_source.identity(settings.teacher_network)
    return plain


def comparison_key(
    name: str, settings: Settings, models: Mapping[str, Artifact], data: Sequence[str] = ()
) -> str:  # fmt: skip
    """Digest all inputs of a comparison; `data` are the keys of listings that it reads besides the models."""
    keys = [model.manifest.key for model in models.values()]
    return artifact.key_of(name, _drop_added_defaults(name, settings.plain()), [*models, *data], keys)
