"""Folders as transformers writes them: small random models of each kind, with a tokenizer of few words."""

import json
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import torch
import transformers

from effxfer.net.text.huggingface import read_folder

VOCABULARY = 60
SIZES = {
    "vocab_size": VOCABULARY, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
    "intermediate_size": 40, "max_position_embeddings": 44,
}  # fmt: skip
SPECIAL = {"bert": ("[PAD]", "[CLS]", "[SEP]"), "roberta": ("<s>", "<pad>", "</s>")}
KINDS = {
    "bert": {},
    "bert-tanh": {"hidden_act": "gelu_new", "type_vocab_size": 1, "layer_norm_eps": 1e-5},
    "camembert": {"type_vocab_size": 1},
    "distilbert": {},
    "electra": {"embedding_size": 16},
    "electra-relu": {"embedding_size": 24, "hidden_act": "relu"},
    "modernbert": {
        "num_hidden_layers": 4, "local_attention": 8, "pad_token_id": 0, "bos_token_id": 1, "cls_token_id": 1,
        "eos_token_id": 2, "sep_token_id": 2,
    },
    "mpnet": {},
    "roberta": {},
    "xlm-roberta": {"type_vocab_size": 1},
}  # fmt: skip


def config_of(kind: str, **more):
    """The configuration of a small model; `kind` may have a suffix."""
    model_type = kind if kind in ("xlm-roberta",) else kind.partition("-")[0]
    return transformers.AutoConfig.for_model(model_type, **{**SIZES, **KINDS[kind], **more})


def write_folder(folder: Path, kind: str = "bert", *, head: str = "AutoModel", **more) -> torch.nn.Module:
    """Write a random model and its tokenizer; give the model in evaluation mode."""
    model = getattr(transformers, head).from_config(config_of(kind, **more)).eval()
    randomize(model)
    model.save_pretrained(folder)
    write_tokenizer(folder, "roberta" if kind.startswith(("camembert", "mpnet", "roberta", "xlm")) else "bert")
    return model


def randomize(model: torch.nn.Module) -> None:
    """Draw all weights anew: those of a new model are so small that attention is uniform."""
    for name, parameter in model.named_parameters():
        norm = "LayerNorm" in name or "layer_norm" in name or name.endswith("norm.weight")
        torch.nn.init.normal_(parameter, mean=float(norm and name.endswith("weight")), std=0.2)


def write_tokenizer(folder: Path, family: str = "bert", count: int = VOCABULARY, **parts) -> None:
    """Write a `tokenizer.json` with so many words; the third special token is the separator."""
    pad, start, end = (SPECIAL[family][i] for i in ((0, 1, 2) if family == "bert" else (1, 0, 2)))
    words = [*SPECIAL[family], *(f"w{i}" for i in range(count - 3))]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    added = [{"id": words.index(word), "content": word, "special": True, **flags} for word in (pad, start, end)]
    processor = {"type": "BertProcessing", "cls": [start, words.index(start)], "sep": [end, words.index(end)]}
    model = {"type": "WordLevel", "vocab": {word: i for i, word in enumerate(words)}, "unk_token": "w0"}
    document = {"version": "1.0", "added_tokens": added, "post_processor": processor, "model": model}
    write_json(folder / "tokenizer.json", {**document, "pre_tokenizer": {"type": "WhitespaceSplit"}, **parts})


def write_json(file: Path, content: object) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
    return file


def change_json(file: Path, **changes) -> None:
    """Replace entries of a JSON object; None removes one."""
    content = {**json.loads(file.read_text()), **changes}
    write_json(file, {key: value for key, value in content.items() if value is not None})


@cache
def both(kind: str):
    """The model of transformers and our encoder with its weights, read from a folder."""
    torch.manual_seed(0)
    folder = Path(mkdtemp())
    model = write_folder(folder, kind)
    return model, read_folder(folder).build()
