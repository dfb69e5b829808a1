from contextlib import nullcontext

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from effxfer.benchmark.layer_table.single_layer import node_model
from effxfer.benchmark.layer_table.table import cache_file, kernel_ms, measure_costs, plan_points, time_layer
from effxfer.errors import ResourceError
from effxfer.files import read_sealed
from effxfer.net.layers import Site, trace
from effxfer.progress import show_through

CONVS = [
    nn.Conv2d(3, 8, 3, 2, 1),
    nn.Conv2d(8, 16, 1),
    nn.Conv2d(8, 8, 5, 1, 2, groups=8),
    nn.Conv2d(8, 16, 3, 2, 1, groups=8),
    nn.Conv2d(8, 16, 3, 1, 1, groups=2),
    nn.Conv2d(4, 8, (1, 3), dilation=2),
]


class Net(nn.Module):
    """A stem, a depthwise and a pointwise layer, a grouped one, and a classifier."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.depth = nn.Conv2d(16, 16, 3, 1, 1, groups=16)
        self.point = nn.Conv2d(16, 32, 1)
        self.grouped = nn.Conv2d(32, 32, 3, 1, 1, groups=2)
        self.head = nn.Linear(32, 5)

    def forward(self, x):
        return self.head(self.grouped(self.point(self.depth(self.stem(x)))).mean((2, 3)))


def layers():
    return trace(Net(), torch.zeros(1, 3, 16, 16))


def fake(calls):
    """A clock of multiply-adds on whose machine widths that are no multiples of 4 take three times as long."""

    def measure(site, inputs, outputs, threads):
        calls.append((site, inputs, outputs))
        groups = inputs if site.kind == "depthwise" else site.groups
        ms = 1e-6 * site.out[0] * site.out[1] * site.kernel[0] * inputs * outputs / groups
        return ms * (3 if inputs > 8 and inputs % 4 else 1)

    return measure


@pytest.mark.parametrize("module", [*CONVS, nn.Linear(6, 9)], ids=repr)
def test_one_node_is_the_layer(module):
    shape = (1, 6) if isinstance(module, nn.Linear) else (1, module.in_channels, 11, 9)
    x = torch.rand(shape)
    [layer] = trace(nn.Sequential(module), x)
    model, given = node_model(layer.site, layer.inputs, layer.outputs)
    assert given == shape
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    found = session.run(None, {"x": x.numpy()})[0]
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(0.01)
        np.testing.assert_allclose(found, module(x).numpy(), atol=1e-5)


def test_time_is_that_of_the_kernel_alone():
    site = Site(kind="conv", kernel=(3, 3), size=(8, 8), out=(8, 8))
    assert 0 < time_layer(site, 8, 16) < 1000


def test_the_profile_counts_the_layer_by_whatever_name():
    events = [{"cat": "Node", "name": "y_nchwc_kernel_time", "dur": d, "args": {"op_name": "Conv"}}
              for d in (99, 99, 99, 10, 12, 14, 50)]  # fmt: skip
    others = [{"cat": "Node", "name": "ReorderInput_kernel_time", "dur": 7, "args": {"op_name": "ReorderInput"}},
              {"cat": "Session", "name": "model_run", "dur": 900}]  # fmt: skip
    assert kernel_ms(events + others) == pytest.approx(0.013)
    with pytest.raises(ResourceError, match="does not show the layer"):
        kernel_ms(others)


def test_every_smaller_network_can_be_asked_about(tmp_path):
    calls = []
    costs = measure_costs(layers(), folder=tmp_path, measure=fake(calls))
    assert len(calls) == len(set(calls))
    for layer in layers():
        for inputs in range(1, layer.inputs + 1):
            for outputs in range(1, layer.outputs + 1):
                assert costs.ms(layer.site, inputs, outputs) > 0
    for layer in layers():
        assert costs.ms(layer.site, layer.inputs, layer.outputs) == pytest.approx(
            fake([])(layer.site, layer.inputs, layer.outputs, 1)
        )
    assert costs.ms(layers()[2].site, 0, 8) == 0


def test_the_fast_path_is_measured(tmp_path):
    costs = measure_costs(layers(), folder=tmp_path, measure=fake([]))
    assert costs.step == 4
    point = layers()[2].site
    assert costs.ms(point, 14, 32) > costs.ms(point, 16, 32)
    assert costs.ms(point, 12, 32) < costs.ms(point, 16, 32)


def test_nothing_is_measured_twice_on_a_machine(tmp_path):
    first = measure_costs(layers(), folder=tmp_path, measure=fake([]))
    again = measure_costs(layers(), folder=tmp_path, measure=lambda *_: pytest.fail("measured again"))
    assert again.points == first.points
    told = read_sealed(cache_file(tmp_path, 1))
    assert {"cpu", "onnxruntime", "threads"} <= told["about"].keys()
    assert cache_file(tmp_path, 2) != cache_file(tmp_path, 1)


def test_a_damaged_cache_is_measured_anew(tmp_path):
    measure_costs(layers(), folder=tmp_path, measure=fake([]))
    file, calls = cache_file(tmp_path, 1), []
    file.write_text(file.read_text().replace("0.", "1.", 1))
    measure_costs(layers(), folder=tmp_path, measure=fake(calls))
    assert calls


def test_measurements_that_cannot_be_kept_are_forgotten(tmp_path):
    (tmp_path / "file").write_text("in the way")
    calls, said = [], []
    with show_through(lambda *_: nullcontext(lambda *_: None), said.append):
        for _ in range(2):
            measure_costs(layers(), folder=tmp_path / "file" / "latency", measure=fake(calls))
    assert len(calls) == 2 * len(set(calls))
    assert len(said) == 1
    assert "EFFXFER_CACHE" in said[0]


def test_points_that_no_layer_needs_are_left_out():
    wide = [nn.Conv2d(8, 512, 1), nn.Conv2d(512, 8, 1)]
    axes, points = plan_points(trace(nn.Sequential(*wide), torch.zeros(1, 8, 4, 4)))
    [site] = points
    assert (512, 512) not in points[site]
    assert {(8, 512), (512, 8)} <= points[site]
    assert len(points[site]) < len(axes[site][0]) * len(axes[site][1])
