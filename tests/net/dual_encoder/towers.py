"""Folders of small random CLIPs: as transformers writes them, and the same weights as open_clip stores them."""

import json
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file

from tests.net.text.folders import randomize, write_json

LETTERS = "abcdefghijklmnopqrstuvwxyz"
VOCABULARY = {
    **{letter: i for i, letter in enumerate(LETTERS)},
    **{f"{letter}</w>": 26 + i for i, letter in enumerate(LETTERS)},
    "ca": 52, "cat</w>": 53, "re": 54, "red</w>": 55, "bl": 56, "ue</w>": 57, "blue</w>": 58,
    "<|startoftext|>": 59, "<|endoftext|>": 60,
}  # fmt: skip
MERGES = ["c a", "ca t</w>", "r e", "re d</w>", "b l", "u e</w>", "bl ue</w>"]
END = VOCABULARY["<|endoftext|>"]
TEXT = {
    "vocab_size": len(VOCABULARY), "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
    "intermediate_size": 96, "max_position_embeddings": 20, "eos_token_id": END, "bos_token_id": END - 1,
    "pad_token_id": END,
}  # fmt: skip
VISION = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128, "image_size": 16,
    "patch_size": 8,
}  # fmt: skip


def config_of(**more):
    """The configuration of a small CLIP; of texts, `text`, and of images, `vision`, replace sizes."""
    text, vision = more.pop("text", {}), more.pop("vision", {})
    return transformers.CLIPConfig(
        text_config={**TEXT, **text}, vision_config={**VISION, **vision}, projection_dim=12, **more
    )


def write_clip(folder: Path, **more) -> torch.nn.Module:
    """Write a random CLIP and its tokenizer; give the model in evaluation mode."""
    torch.manual_seed(0)
    model = transformers.CLIPModel(config_of(**more)).eval()
    randomize(model)
    torch.nn.init.constant_(model.logit_scale, 2.0)
    model.save_pretrained(folder)
    write_tokenizer(folder)
    return model


def write_tokenizer(folder: Path) -> None:
    """Write the two files of a CLIP tokenizer."""
    write_json(folder / "vocab.json", VOCABULARY)
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(MERGES) + "\n")


def write_open_clip(folder: Path, origin: Path, *, quick: bool = True, **parts) -> None:
    """Write the weights of a folder of transformers as open_clip stores them."""
    state = load_file(origin / "model.safetensors")
    stored = {}
    for tower, prefix in (("text_model.", ""), ("vision_model.", "visual.")):
        own = {name.removeprefix(tower): tensor for name, tensor in state.items() if name.startswith(tower)}
        stored |= {prefix + name: tensor for name, tensor in renamed(own).items()}
    stored |= {
        "text_projection": state["text_projection.weight"].mT,
        "visual.proj": state["visual_projection.weight"].mT,
        "logit_scale": state["logit_scale"],
    }
    folder.mkdir(exist_ok=True)
    save_file({n: t.contiguous().clone() for n, t in stored.items()}, folder / "open_clip_model.safetensors")
    vision = {"image_size": 16, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16}
    text = {"context_length": 20, "vocab_size": len(VOCABULARY), "width": 24, "heads": 3, "layers": 2}
    model = {"embed_dim": 12, "quick_gelu": quick, "vision_cfg": vision, "text_cfg": text, **parts}
    images = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "interpolation": "bilinear", "resize_mode": "squash"}
    write_json(folder / "open_clip_config.json", {"model_cfg": model, "preprocess_cfg": images})
    write_tokenizer(folder)


def renamed(state):
    """The tensors of a tower by open_clip's names."""
    names = {
        "embeddings.token_embedding.weight": "token_embedding.weight",
        "embeddings.class_embedding": "class_embedding", "embeddings.patch_embedding.weight": "conv1.weight",
        "embeddings.position_embedding.weight": "positional_embedding", "pre_layrnorm.": "ln_pre.",
        "post_layernorm.": "ln_post.", "final_layer_norm.": "ln_final.", "encoder.layers.": "transformer.resblocks.",
        "layer_norm": "ln_", "self_attn.out_proj": "attn.out_proj", "fc1": "c_fc", "fc2": "c_proj",
    }  # fmt: skip
    out = {}
    for name, tensor in state.items():
        if ".k_proj." in name or ".v_proj." in name:
            continue
        if ".q_proj." in name:
            parts = [state[name.replace(".q_proj.", f".{part}_proj.")] for part in "qkv"]
            tensor, name = torch.cat(parts), name.replace("self_attn.q_proj.", "attn.in_proj_")
        for old, new in names.items():
            name = name.replace(old, new)
        out[name] = tensor
    return out


def read_config(folder: Path, name: str = "config.json"):
    return json.loads((folder / name).read_text())
