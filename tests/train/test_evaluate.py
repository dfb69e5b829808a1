import numpy as np
import pytest
import torch
from torch import nn

from effxfer.data.batches.augment import normalize
from effxfer.data.task import Split
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.runtime.outputs.single_label import SINGLE_LABEL
from effxfer.runtime.rows import Ragged
from effxfer.train import evaluate
from effxfer.train.devices import pick_device
from effxfer.train.evaluate import evaluation_mode, predict, score, score_rows
from tests.net.nets import made
from tests.runtime.text.tiny_tokenizers import tokens

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
    with pytest.raises(KeyError), evaluation_mode(module):
        assert not any(m.training for m in module.modules())
        raise KeyError
    assert all(m.training for m in module.modules())
    assert not torch.is_inference_mode_enabled()


def test_rows_are_named_by_metric_and_split():
    logits = np.array([[2.0, 1, 0], [0, 1, 2], [0, 3, 1], [5, 0, 0]], np.float32)
    (row,) = score_rows(SINGLE_LABEL, logits, np.array([0, 2, 1, 1]), "val/int8")[:1]
    assert (row.name, row.value, row.unit, row.n, row.of) == ("accuracy/val/int8", 75.0, "%", 4, "images")


def test_a_score_is_the_accuracy_on_the_split():
    network = made()
    pixels = np.random.default_rng(0).integers(0, 256, (10, 16, 16, 3), dtype=np.uint8)
    labels = predict(network, pixels, network.input, CPU).argmax(1).numpy()
    names = [str(i) for i in range(10)]
    assert score(network, Split(rows=pixels, labels=labels, names=names), CPU) == 100.0
    assert score(network, Split(rows=pixels, labels=(labels + 1) % 3, names=names), CPU) == 0.0


class Sums(nn.Module):
    """Sums ids, and notes the shape of every batch."""

    def __init__(self):
        super().__init__()
        self.shapes = []

    def forward(self, ids):
        self.shapes.append(tuple(ids.shape))
        return ids.sum(1, keepdim=True)


ROWS = Ragged.of([np.full(n, i + 1, np.int32) for i, n in enumerate((3, 9, 1, 5, 9, 2))])


@pytest.mark.parametrize("batch", [1, 2, 256])
def test_texts_run_longest_first_and_come_back_in_their_order(batch):
    module = Sums()
    out = predict(module, ROWS, tokens(), CPU, batch=batch)
    assert out[:, 0].tolist() == [3.0, 18.0, 3.0, 20.0, 45.0, 12.0]
    longest = [length for _, length in module.shapes]
    assert longest == sorted(longest, reverse=True)
    assert longest[0] == 9


def test_a_batch_of_long_texts_has_few_of_them(monkeypatch):
    monkeypatch.setattr(evaluate, "MOST_TOKENS", 12)
    module = Sums()
    predict(module, ROWS, tokens(), CPU)
    assert module.shapes == [(1, 9), (1, 9), (2, 5), (2, 2)]


def test_a_report_says_what_was_counted():
    raw, labels = np.eye(2, dtype=np.float32)[[0, 1, 1]], np.array([0, 1, 0])
    assert {row.of for row in score_rows(SINGLE_LABEL, raw, labels, "val", "texts")} == {
        "texts",
        "texts, all classes alike",
    }
