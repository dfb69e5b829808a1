"""Read a pretrained text encoder from a Hugging Face folder, without the package `transformers` and without code.

The weights' names and shapes are compared with `config.json` before any of them is read: a file that lies about its
sizes takes no memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from effxfer.errors import ModelFileError
from effxfer.net.backbones.checkpoint import abbreviate, read_tables
from effxfer.net.backbones.missing_names import name_missing
from effxfer.net.backbones.weights import convert_tensors, dtype_notes
from effxfer.net.text.bert_config import encoder_arguments, kind_of, longest, segment_rows
from effxfer.net.text.encoder import Encoder
from effxfer.net.text.folder_files import HINT, read_table, require_fit
from effxfer.net.text.folder_tokens import network_tokens, note_unused_rows, separator_of, stated_length
from effxfer.net.text.modern.modern_config import split_gates, stored_shapes_of, with_masked_biases
from effxfer.net.text.sentence_modules import read_modules
from effxfer.net.text.weight_names import SortedNames, fuse_queries, names_in_files, sort_names, split_queries
from effxfer.runtime.text.tokens import TOKENIZER, Tokens

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
POSITIONS, SEGMENTS = "embeddings.positions.weight", "embeddings.segments.weight"
FLOAT = torch.empty(0, dtype=torch.float32)
Shapes = dict[str, torch.Size]
State = dict[str, Tensor]
Notes = tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class PretrainedText:
    """What a folder holds.

    Attributes:
        arguments: Of `Encoder`.
        state: Its `state_dict`, float32.
        head_state: Tensors of heads: `pooler.*` and `masked.*` by one name for all kinds of models, others by their
            name in the file. `masked.decoder.weight` is absent where it is the token embedding.
        pooling: A key of `TOKEN_POOLS`.
        normalized: Whether the folder's own model brings vectors to length 1.
        tokens: The input: its tokenizer, with the most tokens of a text.
        notes: What was left out or changed.
    """

    arguments: dict[str, Any]
    state: State
    head_state: State
    pooling: str
    normalized: bool
    tokens: Tokens
    notes: Notes = ()

    def build(self) -> Encoder:
        """Build the encoder with its weights, in evaluation mode."""
        encoder = Encoder(**self.arguments)
        encoder.load_state_dict(self.state)
        return encoder.eval()


def read_folder(folder: Path, *, size: int = 0) -> PretrainedText:
    """Read a folder that `save_pretrained` of transformers, or sentence-transformers, wrote.

    Args:
        folder: With `config.json`, `tokenizer.json` or `vocab.txt`, and `model.safetensors` or `pytorch_model.bin`.
        size: Most tokens of a text; 0 takes what the folder says.

    Raises:
        ModelFileError: If a file is absent or unreadable (E434, E403, E408), holds code (E401), describes a network
            that cannot be built (E432, E433) or pooled (E435), does not fit the others (E405, E406, E436, E443), or has
            no numbers (E407, E409); if there is no usable tokenizer (E440 to E445), or too few positions (E437).
    """
    modules = read_modules(folder)
    network = modules.network
    config = read_table(network / CONFIG)
    arguments = encoder_arguments(config, network / CONFIG)
    place = folder if (folder / TOKENIZER).exists() else network
    limit = _longest_text(size, [modules.longest, stated_length(place)], arguments, network)
    tokens = network_tokens(place, arguments, limit)
    if arguments["segments"]:
        arguments["separator"] = separator_of(tokens, place)
    unused = note_unused_rows(tokens, arguments["vocabulary"], folder)
    state, head_state, notes = _read_weights(network, config, arguments)
    return PretrainedText(
        arguments={**arguments, "pooling": modules.pooling}, state=state, head_state=head_state,
        pooling=modules.pooling, normalized=modules.normalized, tokens=tokens, notes=modules.notes + unused + notes,
    )  # fmt: skip


def _read_weights(folder: Path, config: Mapping[str, Any], arguments: Mapping[str, Any]) -> tuple[State, State, Notes]:
    """Read the weights of the encoder and those of heads."""
    file = _weights_file(folder)
    kind = kind_of(config, folder / CONFIG)
    shapes = _expected_shapes(arguments, segment_rows(config, folder / CONFIG))
    tensors, names = _read_tensors(file, shapes, kind.prefix)
    # By their names in the file, so that messages name what the file has.
    used = {stored: tensors[stored] for stored in (*names.body.values(), *names.heads.values())}
    body = {name: tensors[stored] for name, stored in names.body.items()}
    notes = dtype_notes(body, dict.fromkeys(body, FLOAT), file)
    floats = _floats(used, file)
    state, head_state = ({name: floats[at] for name, at in part.items()} for part in (names.body, names.heads))
    if kind.modern:
        return split_gates(state), with_masked_biases(head_state), notes
    return _encoder_state(state, arguments), head_state, notes


def _longest_text(size: int, limits: list[int], arguments: Mapping[str, Any], folder: Path) -> int:
    room = longest(arguments)
    if size > room:
        text = f"texts of {size} tokens, where the position table of {folder.name} has room for {room}"
        raise ModelFileError(text, f"set size to {room} or less", code="E437")
    return size or min([room, *filter(None, limits)])


def _weights_file(folder: Path) -> Path:
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    for name in WEIGHTS:
        if (folder / name).is_symlink() or (folder / name).exists():
            problem = "no regular file" if (folder / name).exists() else "a dangling link"
            raise ModelFileError(f"{folder / name} is {problem}", "get an intact copy of the folder", code="E434")
    sharded = [name for name in WEIGHTS if (folder / f"{name}.index.json").exists()]
    hint = "save them in one file: `save_pretrained(folder, max_shard_size='50GB')`" if sharded else HINT
    text = f"{folder} has its weights in several files" if sharded else f"{folder} has no {' or '.join(WEIGHTS)}"
    raise ModelFileError(text, hint, code="E434")


def _expected_shapes(arguments: Mapping[str, Any], segments: int) -> Shapes:
    """Return the shapes of an encoder's tensors as files of transformers have them, without memory for any of them."""
    with torch.device("meta"):
        expected = Encoder(**arguments).state_dict()
    shapes = {name: tensor.shape for name, tensor in expected.items()}
    if arguments.get("gated"):
        return stored_shapes_of(shapes)
    if segments:
        shapes[SEGMENTS] = torch.Size((segments, shapes[POSITIONS][1]))
    return split_queries(shapes)


def _read_tensors(file: Path, expected: Shapes, prefix: str) -> tuple[State, SortedNames]:
    """Read the tensors of a weights file by their names in it, and sort these; of safetensors, the shapes first."""
    if file.suffix == ".safetensors":
        _match(stored_shapes(file), expected, prefix, file)
    tensors = read_tables(file).get("", {})
    return tensors, _match({name: tensor.shape for name, tensor in tensors.items()}, expected, prefix, file)


def _floats(tensors: Mapping[str, Tensor], file: Path) -> State:
    """Convert tensors to plain float32.

    Raises:
        ModelFileError: `E409`, if one is no floating-point tensor; `E407`, if one holds NaN or infinity.
    """
    if integers := [name for name, tensor in tensors.items() if not tensor.is_floating_point()]:
        text = f"{file} has weights that are no floating-point numbers: {abbreviate(integers)}"
        raise ModelFileError(text, "save them as float32", code="E409")
    return convert_tensors(tensors, dict.fromkeys(tensors, FLOAT), file)


def _encoder_state(state: State, arguments: Mapping[str, Any]) -> State:
    """Fuse queries, keys and values. A single segment is added to the positions: every text has both."""
    if not arguments["segments"] and SEGMENTS in state:
        state[POSITIONS] = state[POSITIONS] + state.pop(SEGMENTS)[0]
    return fuse_queries(state)


def stored_shapes(file: Path) -> Shapes:
    """Read the shapes of the tensors in a safetensors file from its header alone."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as stored:
            return {name: torch.Size(stored.get_slice(name).get_shape()) for name in stored.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"{file} is not a complete safetensors file: {error}", HINT, code="E403") from error


def _match(stored: Mapping[str, torch.Size], expected: Shapes, prefix: str, file: Path) -> SortedNames:
    """Sort the names of a file's tensors, and check that all of the encoder's are there in their shapes.

    Raises:
        ModelFileError: `E405`, if some are missing or of another shape; `E406`, if there are unknown ones.
    """
    names = sort_names(stored, prefix)
    unknown = [*names.unknown, *(stored_name for name, stored_name in names.body.items() if name not in expected)]
    missing = [name for name in expected if name not in names.body]
    wrong = [
        f"{names.body[name]} is {tuple(stored[names.body[name]])}, not {tuple(shape)}"
        for name, shape in expected.items()
        if name in names.body and stored[names.body[name]] != shape
    ]
    missing = name_missing(missing, names.body, lambda tensor: names_in_files(tensor, names.body.values(), prefix))
    require_fit(file, f"its {CONFIG}", missing=missing, wrong=wrong, unknown=unknown, hint=HINT)
    return names
