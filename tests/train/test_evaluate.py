import numpy as np
import pytest
import torch
from torch import nn

from effxfer.data.batches.augment import normalize
from effxfer.data.task import Split
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.train.devices import pick_device
from effxfer.train.evaluate import accuracy, evaluating, predict, score

CPU = pick_device("cpu")
SMALL = Preprocess(size=4)
PIXELS = np.random.default_rng(0).integers(0, 256, (10, 4, 4, 3), dtype=np.uint8)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(16, 3))


@pytest.mark.parametrize("batch", [1, 3, 10, 256])
def test_predicts_a_whole_split_in_any_batches(batch):
    module = net()
    out = predict(module, PIXELS, SMALL, CPU, batch=batch)
    with torch.no_grad():
        expected = module.eval()(normalize(torch.tensor(PIXELS), SMALL))
    torch.testing.assert_close(out, expected)
    assert not out.is_inference(), "what it gives can be trained on"


def test_modes_and_statistics_are_as_before():
    module = net().train()
    module[1].eval()
    before = {name: t.clone() for name, t in module.state_dict().items()}
    predict(module, PIXELS, SMALL, CPU)
    assert [m.training for m in module.modules()] == [True, True, False, True, True, True]
    assert all(torch.equal(t, before[name]) for name, t in module.state_dict().items())
    assert torch.is_grad_enabled()


def test_modes_come_back_also_after_an_error():
    module = net().train()
    with pytest.raises(KeyError), evaluating(module):
        assert not any(m.training for m in module.modules())
        raise KeyError
    assert all(m.training for m in module.modules())
    assert not torch.is_inference_mode_enabled()


def test_accuracy_by_hand():
    logits = torch.tensor([[2.0, 1, 0], [0, 1, 2], [0, 3, 1], [5, 0, 0]])
    found = accuracy(logits, np.array([0, 2, 2, 0]), "accuracy/val")
    assert (found.value, found.unit, found.n, found.of) == (75.0, "%", 4, "images")


def test_a_score_is_the_accuracy_on_the_split():
    module = net()
    labels = predict(module, PIXELS, SMALL, CPU).argmax(1).numpy()
    split = Split(pixels=PIXELS, labels=labels, names=[str(i) for i in range(10)])
    assert score(module, split, SMALL, CPU, "x").value == 100.0
    split = Split(pixels=PIXELS, labels=(labels + 1) % 3, names=[str(i) for i in range(10)])
    assert score(module, split, SMALL, CPU, "x").value == 0.0
