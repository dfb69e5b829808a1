"""Open a folder as a backbone: `hf:FOLDER` is a text encoder, `clip:FOLDER` a dual encoder of images and texts."""

import torch

from effxfer.errors import ModelFileError
from effxfer.net.dual_encoder.open_folder import is_dual_encoder, open_dual_encoder, open_text_tower
from effxfer.net.edits import apply_edit
from effxfer.net.net import Net
from effxfer.net.settings import DUAL_ENCODER, ENCODER, BackboneSettings
from effxfer.net.text.huggingface import read_folder
from effxfer.net.text.masked_head import head_tensors


def open_folder(settings: BackboneSettings) -> tuple[Net, tuple[str, ...]]:
    """Open the network of `hf:FOLDER` or `clip:FOLDER`; see `open_encoder` and `open_dual_encoder`."""
    folder = settings.folder()
    if settings.source.startswith(DUAL_ENCODER):
        return open_dual_encoder(settings)
    if folder is not None and is_dual_encoder(folder):
        return open_text_tower(settings)
    return open_encoder(settings)


def open_encoder(settings: BackboneSettings) -> tuple[Net, tuple[str, ...]]:
    """Build a network with the encoder of a folder as its body, and with its head for masked tokens, if it has one.

    Args:
        settings: `size` is the most tokens of a text, `args` replace arguments of `Encoder`, such as `dropout`.

    Returns:
        The network, and notes on what of the folder was left out.

    Raises:
        ModelFileError: As `read_folder`.
        SettingsError: If a setting is one of images.
    """
    folder = settings.folder()
    if folder is None:
        raise ModelFileError(f"{settings.source} is no folder of a text encoder", "write hf:FOLDER", code="E434")
    text = read_folder(folder, size=settings.size or 0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Net({"source": ENCODER, "args": {**text.arguments, **settings.args}}, settings.adjust(text.tokens))
    if settings.pretrained:
        net.body.load_state_dict(text.state)
        if head := head_tensors(text.head_state, text.state["embeddings.tokens.weight"], folder):
            apply_edit(net, "set_masked_head")
            net.head.load_state_dict(head)
    return net, text.notes
