"""A pipeline over the tiny data set, as a TOML file would give it."""

from pathlib import Path

HEAD = """
[data]
source = "{folder}"
val_fraction = 0.2
test_fraction = 0.2

[backbone]
source = "effxfer.net.cifar:resnet20"
pretrained = false
size = 16
"""
TOML = f"""{HEAD}args.width = 16

[[stage]]
name = "dense"
run = "finetune"
options.batch = 8
options.augment.crop = "none"
options.augment.flip = false
fit.epochs = 4
fit.lr = 0.01

[[stage]]
name = "small"
run = "prune"
method = "channels"
ratio = 0.5
scope = "layer"
round_to = 8
options.batch = 8
fit.epochs = 1

[[stage]]
name = "dense-onnx"
run = "export"
from = "dense"
int8 = false

[[stage]]
name = "small-onnx"
run = "export"
int8 = false

[[stage]]
name = "bench"
run = "bench"
max_seconds = 0.2
precision = 0.5
"""


def write(path: Path, folder: Path | str, text: str = TOML) -> Path:
    """Write a pipeline's file."""
    path.write_text(text.replace("{folder}", str(folder)))
    return path
