"""Read what sentence-transformers writes beside a network: its place, its pooling, and the length of its texts.

Pooling is part of a pretrained encoder: the first token of one that was trained with means is nearly useless.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from effxfer.errors import ModelFileError
from effxfer.net.text.folder_files import HINT, child_folder, read_json, read_optional, read_table

MODULES = "modules.json"
# Without a word in the folder: masked training leaves the first token of most encoders without a task.
USUAL_POOLING = "mean"
MODES = {"cls": "first", "cls_token": "first", "mean": "mean", "mean_tokens": "mean"}
NETWORKS = ("bert", "roberta", "distilbert", "camembert", "xlm-roberta", "mpnet", "electra")
MOST_MODULES = 32


@dataclass(frozen=True, kw_only=True)
class SentenceModules:
    """The modules of a sentence-transformers folder.

    Attributes:
        network: Folder of `config.json` and the weights.
        pooling: A key of `TOKEN_POOLS`.
        normalized: Whether vectors are then brought to length 1.
        longest: Tokens that texts were cut to; 0 if the folder does not say.
        notes: Modules that are left out.
    """

    network: Path
    pooling: str = USUAL_POOLING
    normalized: bool = False
    longest: int = 0
    notes: tuple[str, ...] = ()


def read_modules(folder: Path) -> SentenceModules:
    """Read `modules.json` and the files that it names; without it, the folder itself holds the network.

    Raises:
        ModelFileError: `E434`, if a file is unreadable or names a place outside; `E435`, if the pooling is neither of
            the mean nor of the first token.
    """
    file = folder / MODULES
    entries = _entries(file) if file.exists() else []
    folders = {kind: child_folder(folder, path, file) for kind, path in entries}
    network = folders.get("Transformer", folder)
    pooling = folders.get("Pooling", folder / "1_Pooling") / "config.json"
    unknown = [kind for kind, _ in entries if kind not in ("Transformer", "Pooling", "Normalize")]
    return SentenceModules(
        network=network,
        pooling=_read_pooling(pooling) if "Pooling" in folders or pooling.exists() else USUAL_POOLING,
        normalized="Normalize" in folders,
        longest=_longest(network),
        notes=tuple(f"{folder.name}: the module {kind} behind the pooling is left out" for kind in unknown),
    )


def _entries(file: Path) -> list[tuple[str, Any]]:
    raw = read_json(file)
    if not isinstance(raw, list) or len(raw) > MOST_MODULES or not all(isinstance(entry, dict) for entry in raw):
        raise ModelFileError(f"{file} is no list of modules", HINT, code="E434")
    return [(str(entry.get("type")).rpartition(".")[2], entry.get("path")) for entry in raw]


def _read_pooling(file: Path) -> str:
    config = read_table(file)
    modes = [key.removeprefix("pooling_mode_") for key, value in config.items() if _is_chosen(key, value)]
    if isinstance(config.get("pooling_mode"), str):
        modes = [config["pooling_mode"]]
    pools = {MODES.get(mode, "") for mode in modes}
    if len(pools) != 1 or "" in pools:
        text = f"{file}: tokens are pooled by {', '.join(modes)[:100] or 'nothing'}"
        raise ModelFileError(text, "the mean of the tokens and the first token work", code="E435")
    return pools.pop()


def _is_chosen(key: str, value: object) -> bool:
    return key.startswith("pooling_mode_") and value is True


def _longest(network: Path) -> int:
    configs: list[Mapping[str, Any]] = [read_optional(network / f"sentence_{kind}_config.json") for kind in NETWORKS]
    lengths = [config.get("max_seq_length") for config in configs]
    return next((length for length in lengths if type(length) is int and 0 < length < 2**20), 0)
