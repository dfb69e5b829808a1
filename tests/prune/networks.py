"""Published networks of every kind, with random weights, and what pruning their channels must come to.

`try_one` prunes, saves, exports and measures; tests assert on its rows, `python -m benchmarks.networks` prints them.
"""

import re
import time
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import torch

from effxfer.deploy.export.onnx import export_onnx
from effxfer.prune.channels.remove import remove_channels
from tests.prune.dead import outspoken
from tests.prune.nets import make, save


class Network(NamedTuple):
    """A network and what is expected of it.

    Attributes:
        source: As `build_body` takes it.
        size: Side of its images.
        args: For its constructor.
        left: Regular expression of the layers that may stay as they are, and must be named; empty is none.
        part: Share of the multiply-adds that layers which stay may keep from leaving.
    """

    source: str
    size: int = 32
    args: dict[str, Any] = {}  # noqa: RUF012
    left: str = ""
    part: float = 0.0


SWIN = {"img_size": 32, "depths": (2, 2), "embed_dim": 24, "num_heads": (2, 4), "window_size": 4}
SHORT_SWIN = {**SWIN, "depths": (1, 1)}
SHORT_VIT = {"img_size": 32, "depth": 2, "embed_dim": 48, "num_heads": 3}
XCA = r"body\.stages\.[123]\..*"  # uneven chunks, and attention that counts its channels as those of its input

QUICK = {
    "resnet10t": Network("timm:resnet10t"),
    "vit, 2 blocks": Network("timm:vit_tiny_patch16_224", args=SHORT_VIT),
    "shufflenet v2": Network("tests.prune.nets_shuffle:Halved"),
}  # fmt: skip

MATRIX = {
    "convnext, 4 blocks": Network("timm:convnext_atto", args={"depths": (1, 1, 1, 1), "dims": (16, 16, 32, 32)}),
    "swin, 2 blocks": Network("timm:swin_tiny_patch4_window7_224", args=SHORT_SWIN, left=r".*\.attn"),
    "shufflenet v1": Network("tests.prune.nets_shuffle:Grouped"),
    **{name: Network(f"timm:{name}") for name in (
        "resnet18", "resnet50", "seresnet18", "resnext50_32x4d", "res2net50_14w_8s", "cspresnet50", "densenet121",
        "dla34", "repvgg_a0", "vgg11", "mobilenetv2_100", "mobilenetv3_small_100", "mobilenetv3_large_100",
        "mobilenetv4_conv_small", "efficientnet_b0", "efficientnet_lite0", "mnasnet_small", "hardcorenas_a",
        "fbnetc_100", "rexnet_100", "ghostnet_050", "regnetx_002", "regnety_002", "convnext_atto", "convnextv2_atto",
        "ese_vovnet19b_dw", "fasternet_t0", "starnet_s1",
    )},
    "inception_v3": Network("timm:inception_v3", 96),
    "hrnet_w18_small": Network("timm:hrnet_w18_small", 64),
    "vit_tiny_patch16_224": Network("timm:vit_tiny_patch16_224", args={"img_size": 32}),
    "deit_tiny_patch16_224": Network("timm:deit_tiny_patch16_224", args={"img_size": 32}),
    "swin_tiny, 4 blocks": Network("timm:swin_tiny_patch4_window7_224", args=SWIN, left=r".*\.attn"),
    "mixer_s32_224": Network(
        "timm:mixer_s32_224", 64, {"img_size": 64}, left=r".*\.mlp_tokens\.fc\d", part=0.05
    ),
    "mobilevit_xxs": Network("timm:mobilevit_xxs", 64),
    "mobilevitv2_050": Network("timm:mobilevitv2_050", 64, left=r".*\.attn\.qkv_proj, 1 of its \d+ channels"),
    "edgenext_xx_small": Network("timm:edgenext_xx_small", 64, left=XCA, part=0.5),
    "efficientformerv2_s0": Network(
        "timm:efficientformerv2_s0", 64, {"img_size": 64}, left=r".*(token_mixer|downsample\.attn).*", part=0.5
    ),
}  # fmt: skip


def try_one(name, network, ratio, folder):
    """Prune a network by a share, save it for `rebuilt.py`, export it, and tell what came of it."""
    torch.manual_seed(0)
    net = outspoken(make(network.source, network.size, args=network.args))
    began = time.process_time()
    report = remove_channels(net, ratio=ratio).report
    seconds = time.process_time() - began
    folder.mkdir(exist_ok=True, parents=True)
    save(net, folder, name, network.size)
    tables = {table.title: table.rows for table in report.tables}
    return {
        "network": name,
        "ratio": ratio,
        "parameters M": report["parameters/before"].value,
        "parameters ratio": report.get("parameters/ratio"),
        "MACs ratio": report.get("macs/ratio"),
        "parity": parity(net, folder / f"{name}.onnx"),
        "seconds": seconds,
        "left": {row["layer"]: row["why"] for row in tables.get("Layers not pruned", ())},
    }


def parity(net, file):
    """Largest difference between the exported file and torch, as a share of the largest output."""
    export_onnx(net.eval(), file, input=net.input, classes=net.classes, key="0" * 16)
    size = net.input.size
    images = torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = net(images).numpy()
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    found = session.run(None, {"images": images.numpy()})[0]
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def complaints(network, row):
    """Everything that is not as it should be."""
    most = (1 - row["ratio"]) ** 2 + 0.12 + network.part
    found = []
    if row["MACs ratio"] > most:
        found.append(f"{row['MACs ratio']:.3f} of the multiply-adds remain, {most:.3f} expected")
    if row["parity"] > 1e-4:
        found.append(f"exported, it differs by {row['parity']:.2g}")
    stray = [layer for layer in row["left"] if not (network.left and re.fullmatch(network.left, layer))]
    found += [f"{layer} was not pruned: {row['left'][layer]}" for layer in stray]
    found += ["no layer is named"] if network.left and not row["left"] else []
    return found
