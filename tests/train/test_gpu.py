"""What only a GPU shows: training there learns, goes on after a stop, and lives with little memory."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from effxfer.data.batches import batches
from effxfer.data.batches.augment import Augment, augment
from effxfer.data.batches.batches import Batches, Pixels, make_generator
from effxfer.train.devices import pick_device
from effxfer.train.fit import StepRange, fit
from effxfer.train.settings import FitSettings
from effxfer.train.state import Work

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a GPU: run the suite on a machine with one"
)
GPU = torch.device("cuda", 0)
IMAGES = np.random.default_rng(0).integers(0, 256, (48, 24, 24, 3), dtype=np.uint8)
Y = torch.from_numpy(IMAGES.mean((1, 2))[:, 0] > IMAGES.mean((1, 2))[:, 1]).long()


def make() -> nn.Module:
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*body, nn.Linear(16, 2)).to(GPU)


def epochs(seed: int) -> Batches:
    source = Pixels(IMAGES, GPU)

    def batch(index, rng):
        varied = augment(source[index], None, 16, Augment(), rng)
        return varied.permute(0, 3, 1, 2).float() / 255 - 0.5, Y[index].to(GPU)

    return Batches(len(IMAGES), 16, batch, seed)


def loss(net, batch, _progress):
    return {"label": nn.functional.cross_entropy(net(batch[0]), batch[1])}


def run(work: Work, span: StepRange = StepRange(), **settings) -> tuple[nn.Module, list[dict[str, float]]]:  # noqa: B008
    net = make()
    rows = fit(
        net,
        epochs,
        loss,
        FitSettings(epochs=6, lr=0.02, **settings),
        device=pick_device(),
        seed=3,
        work=work,
        span=span,
    )
    return net, rows


@pytest.mark.parametrize("amp", ["auto", "off", "bf16", "fp16"])
def test_training_there_learns_in_every_number_format(amp):
    rows = run(Work(None), amp=amp)[1]
    assert rows[-1]["loss"] < rows[0]["loss"]


def test_training_that_was_cut_off_goes_on_to_about_the_same_weights(tmp_path):
    whole = run(Work(None), amp="off", keep="last")[0]

    class CutOffError(Exception):
        pass

    def stop(done: int) -> None:
        if done == 11:
            raise CutOffError

    net = make()
    told = FitSettings(epochs=6, lr=0.02, amp="off", keep="last")
    with pytest.raises(CutOffError):
        fit(net, epochs, loss, told, device=pick_device(), seed=3, work=Work(tmp_path), after_step=stop)
    resumed, rows = run(Work(tmp_path), amp="off", keep="last")
    assert len(rows) == 6
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


def test_images_that_leave_the_gpu_no_room_come_batch_by_batch(monkeypatch):
    index = torch.tensor([3, 0, 47])
    resident = Pixels(IMAGES, GPU)[index]
    monkeypatch.setattr(batches, "RESIDENT_SHARE", 0.0)
    before = torch.cuda.memory_allocated()
    source = Pixels(IMAGES, GPU)
    assert torch.cuda.memory_allocated() == before
    streamed = source[index]
    assert resident.device == streamed.device == GPU
    assert torch.equal(resident, streamed)


def test_images_are_copied_whole_however_large_the_pieces_are(monkeypatch):
    monkeypatch.setattr(batches, "COPIED_ROWS", 7)
    index = torch.arange(len(IMAGES))
    assert torch.equal(Pixels(IMAGES, GPU)[index].cpu(), torch.from_numpy(IMAGES))


def test_a_batch_is_the_same_as_on_the_cpu_but_for_rounding():
    index, how = torch.arange(16), Augment(colour=0.2)
    there, here = (
        augment(Pixels(IMAGES, device)[index], None, 16, how, make_generator(5)).cpu().int()
        for device in (GPU, torch.device("cpu"))
    )
    assert (there - here).abs().max() <= 2


def test_a_batch_that_does_not_fit_into_the_gpu_is_taken_in_parts(tmp_path):
    """A real shortage: a batch's activations are more than the memory that the process may have."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(GPU).total_memory
    held = torch.cuda.memory_reserved(GPU)
    torch.cuda.set_per_process_memory_fraction((held + 2**30) / total, GPU)
    try:
        x = torch.zeros(64, 3, 8, 8, device=GPU)

        def hungry(net, batch, _progress):
            torch.empty(len(batch[0]) * 2**24, dtype=torch.int32, device=GPU)  # 64 MiB an image, 4 GiB for all
            return loss(net, batch, _progress)

        y = torch.zeros(64, dtype=torch.long, device=GPU)
        fit(
            make(), lambda seed: Batches(64, 64, lambda i, _: (x[i.to(GPU)], y[i.to(GPU)]), seed), hungry,
            FitSettings(epochs=2), device=pick_device(), seed=0, work=Work(tmp_path),
        )  # fmt: skip
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, GPU)
    noted = [json.loads(line).get("parts") for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [n for n in noted if n][:2] == [2, 4]
