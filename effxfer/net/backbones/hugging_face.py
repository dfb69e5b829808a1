"""Open the text encoder of a Hugging Face folder as a backbone: `hf:FOLDER`."""

import torch

from effxfer.errors import ModelFileError
from effxfer.net.edits import apply_edit
from effxfer.net.net import Net
from effxfer.net.settings import ENCODER, BackboneSettings
from effxfer.net.text.huggingface import read_folder
from effxfer.net.text.masked_head import head_tensors


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
