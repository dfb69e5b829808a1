"""Say what classes are by their names: sentence embeddings or word vectors, a row for each class.

Several prompts are averaged (Radford et al., 2021, section 3.1.4, https://arxiv.org/abs/2103.00020).

Shape legend: C classes, E numbers of each.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from effxfer import model_source
from effxfer.data.labels.captions import fill_prompts, require_place
from effxfer.data.word_vectors import embed_names
from effxfer.errors import DataError, ModelFileError, SettingsError
from effxfer.net.heads.compare import Compare
from effxfer.net.net import Net
from effxfer.net.settings import BackboneSettings
from effxfer.runtime.class_tables.class_table import ClassTable, require_distinct
from effxfer.runtime.class_tables.class_table_error import ClassTableError
from effxfer.runtime.text.errors import TextError
from effxfer.stages.data.file_embeddings import embed_by_file
from effxfer.train.devices import Device
from effxfer.train.evaluate import predict

FILE = ".onnx"
WORD_VECTOR_SUFFIXES = (".npz", ".txt", ".vec")


def embed_class_names(names: Sequence[str], encoder: str, prompts: Sequence[str], device: Device) -> ClassTable:
    """Embed class names by a text encoder, or look up their words in a file of word vectors.

    Args:
        names: C names, such as `polar_bear`; an encoder reads them with blanks between their words.
        encoder: `hf:FOLDER`, a bundled encoder or a model directory of texts; a file `.txt`, `.vec` or `.npz` of word
            vectors; or the `.onnx` file of a dual encoder, where one of images takes paths of image files as names.
        prompts: Texts with `{}` where a name goes, for an encoder; their embeddings of length 1 are averaged.
        device: Where the encoder runs.

    Returns:
        A row for each name, of length 1 if an encoder made it.

    Raises:
        SettingsError: If a prompt has no `{}`, or the encoder takes no texts.
        ModelFileError: If the encoder cannot be opened.
        DataError: `E370` to `E373` for names or word vectors that cannot be used.
    """
    try:
        require_distinct(names)
        if encoder.lower().endswith(WORD_VECTOR_SUFFIXES):
            return embed_names(names, Path(encoder))
        require_place(prompts)
        if encoder.lower().endswith(FILE):
            return embed_by_file(names, Path(encoder), prompts)
        return ClassTable(names=tuple(names), values=_encode(names, encoder, prompts, device).numpy())
    except ClassTableError as error:
        raise DataError(error.problem, error.hint, code=error.code) from None
    except TextError as error:
        raise ModelFileError(error.problem, error.hint, code=error.code) from None


def _encode(names: Sequence[str], encoder: str, prompts: Sequence[str], device: Device) -> Tensor:
    """Return embeddings of length 1, `(C, E)`."""
    net, _ = model_source.open_model(BackboneSettings(source=encoder))
    if net.input.kind != "text":
        hint = "name a text encoder, such as hf:FOLDER; for images the .onnx file of a dual encoder"
        raise SettingsError(f"{encoder} takes {net.input.unit}, not texts", hint)
    filled = [fill_prompts(name, prompts) for name in names]
    each = [_embed(net, texts, device) for texts in zip(*filled, strict=True)]
    return F.normalize(torch.stack(each).mean(0), dim=1)


def _embed(net: Net, texts: Sequence[str], device: Device) -> Tensor:
    rows = net.input.encode(texts).rows  # type: ignore[attr-defined]
    return F.normalize(predict(PooledTexts(net.to(device.torch)), rows, net.input, device), dim=1)


class PooledTexts(nn.Module):
    """One vector for each text, also of an encoder whose head answers for each token.

    Of a text tower, it is the embedding in the space that it shares with images.
    """

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def forward(self, ids: Tensor) -> Tensor:
        """Map ids `(B, n)` to `(B, E)`."""
        head = self.net.head
        if isinstance(head, Compare) and head.form == "cosine":
            return head.embed(self.net.features(ids))
        return self.net.pooled_taps(ids, ("out",))["out"]
