"""A network so narrow that its shortcuts do not fill a vector: what training with channels last got wrong."""

import numpy as np
import torch

from effxfer.net.settings import BackboneSettings
from effxfer.runtime.images.preprocess import normalize
from tests import tiny

NARROW = BackboneSettings(source="effxfer.net.cifar:resnet20", args={"width": 4}, pretrained=False, size=16)


def test_channels_are_cut_between_trainings_and_the_result_is_found_again(data, tmp_path):
    """Cut, train, cut: the second cut meets weights as training left them, and must rebuild bit for bit."""
    dense = tiny.stage("finetune", NARROW, tmp_path / "dense", data)
    small = tiny.stage(
        "prune channels", dense, tmp_path / "small", data, round_to=1, steps=2, ratio=0.4, importance="taylor"
    )
    assert [edit["kind"] for edit in small.manifest.edits] == ["set_head", "resize", "resize"]
    task = small.manifest.report["accuracy/val"]
    again = tiny.stage("finetune", small, tmp_path / "again", data, fit={"epochs": 0})
    assert again.manifest.report["accuracy/val"] == task, "measured after training as after loading"
    images = torch.from_numpy(normalize(np.zeros((2, 16, 16, 3), np.uint8), small.net().input))
    with torch.inference_mode():
        assert torch.equal(small.net()(images), again.net()(images))
