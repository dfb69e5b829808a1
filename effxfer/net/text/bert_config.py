"""Translate the `config.json` of BERT-like models of transformers into arguments of `Encoder`.

What the encoder cannot express is refused by name; a network that is only nearly the same would be silently wrong.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from effxfer.errors import ModelFileError, did_you_mean
from effxfer.net.text.encoder import ACTIVATIONS
from effxfer.net.text.modern.modern_config import modern_arguments

BERT_KEYS = {
    "vocabulary": "vocab_size", "width": "hidden_size", "layers": "num_hidden_layers", "heads": "num_attention_heads",
    "mlp": "intermediate_size", "positions": "max_position_embeddings", "segments": "type_vocab_size",
    "activation": "hidden_act", "eps": "layer_norm_eps", "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
}  # fmt: skip
DISTILBERT_KEYS = {
    "vocabulary": "vocab_size", "width": "dim", "layers": "n_layers", "heads": "n_heads", "mlp": "hidden_dim",
    "positions": "max_position_embeddings", "activation": "activation", "dropout": "dropout",
    "attention_dropout": "attention_dropout",
}  # fmt: skip
MPNET_KEYS = {argument: key for argument, key in BERT_KEYS.items() if argument != "segments"}
MODERN_KEYS = {
    "vocabulary": "vocab_size", "width": "hidden_size", "layers": "num_hidden_layers", "heads": "num_attention_heads",
    "mlp": "intermediate_size", "positions": "max_position_embeddings", "activation": "hidden_activation",
    "eps": "norm_eps", "dropout": "embedding_dropout", "attention_dropout": "attention_dropout",
}  # fmt: skip
MODERN_DROPOUT = 0.0  # where the file says nothing
MPNET_BUCKETS = 32  # transformers ignores the number in the file


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One `model_type`.

    Attributes:
        prefix: Begins the names of the body's tensors in files of models with a head.
        keys: Key of `config.json` by argument of `Encoder`.
        pad: Id of padding if the file names none.
        positions_from_pad: See `Encoder`.
        pairs: Whether the two texts of a pair have different segments.
        relative_buckets: See `Encoder`.
        modern: Whether it is ModernBERT, with rotary positions and windows.
    """

    prefix: str
    keys: Mapping[str, str]
    pad: int = 0
    positions_from_pad: bool = False
    pairs: bool = False
    relative_buckets: int = 0
    modern: bool = False


ROBERTA = Kind(prefix="roberta.", keys=BERT_KEYS, pad=1, positions_from_pad=True)
KINDS: dict[str, Kind] = {
    "bert": Kind(prefix="bert.", keys=BERT_KEYS, pairs=True),
    "camembert": ROBERTA,
    "distilbert": Kind(prefix="distilbert.", keys=DISTILBERT_KEYS),
    "electra": Kind(prefix="electra.", keys={**BERT_KEYS, "embedding_width": "embedding_size"}, pairs=True),
    "modernbert": Kind(prefix="model.", keys=MODERN_KEYS, pad=50283, modern=True),
    "mpnet": Kind(
        prefix="mpnet.", keys=MPNET_KEYS, pad=1, positions_from_pad=True, relative_buckets=MPNET_BUCKETS
    ),
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
}  # fmt: skip
# By reason and nearest kind that works.
REFUSED: dict[tuple[str, str], str] = {
    ("its attention has relative positions", "roberta"): "deberta deberta-v2 xlnet funnel convbert",
    ("it has rotary positions", "modernbert"): "nomic_bert roformer eurobert neobert new gte jina_bert",
    ("it attends in sliding windows", "roberta"): "longformer big_bird led reformer",
    ("its blocks share or group weights", "electra"): "albert mobilebert squeezebert ibert",
    ("its norms stand before attention", "roberta"): "roberta-prelayernorm xlm-roberta-xl data2vec-text",
    (
        "it is a decoder",
        "roberta",
    ): "gpt2 gpt_neo gptj llama mistral qwen2 qwen3 opt bloom gemma gemma2 gemma3 phi phi3",
    ("it is an encoder with a decoder", "roberta"): "t5 mt5 bart mbart marian pegasus",
    ("it reads images", "mpnet"): "clip siglip vit layoutlm layoutlmv3 blip",
}
ALIASES = {"gelu_python": "gelu", "gelu_fast": "gelu_new", "gelu_pytorch_tanh": "gelu_new", "swish": "silu"}
WINDOWS = ("sliding_window", "attention_window", "local_attention", "global_attn_every_n_layers", "block_size")
LIMITS = {
    "vocabulary": 2**20, "width": 2**13, "layers": 256, "heads": 1024, "mlp": 2**16, "positions": 2**16,
    "embedding_width": 2**13, "segments": 64,
}  # fmt: skip
DEFAULTS: dict[str, Any] = {
    "activation": "gelu", "eps": 1e-12, "dropout": 0.1, "attention_dropout": 0.1, "segments": 2,
}  # fmt: skip


def kind_of(config: Mapping[str, Any], file: Path) -> Kind:
    """Return the kind of model that a `config.json` describes.

    Raises:
        ModelFileError: `E432`, if the kind is not one of `KINDS`, or its network is code beside it.
    """
    name = config.get("model_type")
    if isinstance(name, str) and name in KINDS and not config.get("auto_map"):
        return KINDS[name]
    reasons = {word: reason for reason, words in REFUSED.items() for word in words.split()}
    reason, nearest = reasons.get(str(name), ("", ""))
    works = f"these work: {', '.join(KINDS)}"
    hint = f"{works}; the nearest is {nearest}" if nearest else f"{works}{did_you_mean(str(name), KINDS)}"
    if config.get("auto_map"):
        reason = "its network is Python code beside the weights, which is not run"
        hint = f"take weights without code (`auto_map`) of one of these types: {', '.join(KINDS)}"
    text = f"{file}: a model of type {name!r:.60} cannot be built"
    raise ModelFileError(f"{text}: {reason}" if reason else text, hint, code="E432")


def encoder_arguments(config: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """Return the arguments of `Encoder` that a `config.json` describes; `separator` is not among them.

    Raises:
        ModelFileError: `E432` as `kind_of`; `E433`, if a setting cannot be expressed or is out of range; `E437`, if
            there are fewer positions than padding takes.
    """
    kind = kind_of(config, file)
    if reason := _unsupported_part(config, kind):
        raise ModelFileError(f"{file}: {reason}", "take a plain BERT-like encoder", code="E433")
    if kind.modern:
        config = {
            **dict.fromkeys(("embedding_dropout", "attention_dropout"), MODERN_DROPOUT),
            "norm_eps": 1e-5,
            **config,
        }
    arguments = {argument: _value(config, key, argument, file) for argument, key in kind.keys.items()}
    arguments["activation"] = _activation(arguments["activation"], file)
    arguments["pad"] = kind.pad if config.get("pad_token_id") is None else _value(config, "pad_token_id", "pad", file)
    arguments |= {"positions_from_pad": kind.positions_from_pad, "relative_buckets": kind.relative_buckets}
    if not kind.pairs or arguments["segments"] < 2:
        arguments["segments"] = 0
    if kind.modern:
        arguments |= modern_arguments(config, arguments["layers"], file)
    if arguments["width"] % arguments["heads"]:
        text = f"{file}: {arguments['heads']} heads do not divide the width {arguments['width']}"
        raise ModelFileError(text, "get an intact copy", code="E433")
    if longest(arguments) < 1:
        text = f"{file}: {arguments['positions']} positions leave none behind the padding {arguments['pad']}"
        raise ModelFileError(text, "get an intact copy", code="E437")
    return arguments


def segment_rows(config: Mapping[str, Any], file: Path) -> int:
    """Return the rows of the segment table in a model's file, which an encoder without segments has not; 0 is none."""
    key = kind_of(config, file).keys.get("segments")
    return int(_value(config, key, "segments", file)) if key else 0


def longest(arguments: Mapping[str, Any]) -> int:
    """Return how many tokens the position table has room for."""
    return int(arguments["positions"]) - (int(arguments["pad"]) + 1 if arguments["positions_from_pad"] else 0)


def _unsupported_part(config: Mapping[str, Any], kind: Kind) -> str:
    """Say what of a known kind the encoder lacks; empty if nothing."""
    positions = config.get("position_embedding_type", "absolute")
    buckets = config.get("relative_attention_num_buckets", MPNET_BUCKETS)
    reasons = {
        f"positions of type {positions!r:.40} are not built": positions not in (None, "absolute"),
        f"{buckets!r:.20} buckets of relative positions are not {MPNET_BUCKETS}": kind.relative_buckets
        and buckets != MPNET_BUCKETS,
        "it is a decoder": config.get("is_decoder") or config.get("add_cross_attention"),
        "its weights are quantized": config.get("quantization_config"),
        "heads were removed by transformers": config.get("pruned_heads"),
        "it attends in sliding windows": not kind.modern and any(config.get(key) for key in WINDOWS),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _activation(name: Any, file: Path) -> str:
    name = ALIASES.get(name, name) if isinstance(name, str) else name
    if not isinstance(name, str) or name not in ACTIVATIONS:
        names = ", ".join([*ACTIVATIONS, *ALIASES])
        raise ModelFileError(f"{file}: no activation {name!r:.60}", f"it is one of {names}", code="E433")
    return name


def _value(config: Mapping[str, Any], key: str, argument: str, file: Path) -> Any:
    """Return one setting, checked by what it is for.

    Raises:
        ModelFileError: `E433`, if it is absent without a default, or out of range.
    """
    value = config.get(key, DEFAULTS.get(argument))
    number, integer = isinstance(value, int | float) and not isinstance(value, bool), type(value) is int
    checks = {
        "activation": True,
        "attention_dropout": number and 0 <= value < 1,
        "dropout": number and 0 <= value < 1,
        "eps": number and 0 < value < 1,
        "pad": integer and 0 <= value < 2**20,
        "segments": integer and 0 <= value <= LIMITS["segments"],
    }
    if not checks.get(argument, integer and 1 <= value <= LIMITS.get(argument, 0)):
        text = f"{file}: {key} is {value!r:.60}" if key in config else f"{file} has no {key}"
        raise ModelFileError(text, f"at most {LIMITS.get(argument, 1)} works; get an intact copy", code="E433")
    return value
