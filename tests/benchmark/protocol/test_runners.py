import numpy as np
import pytest
import torch

from effxfer.benchmark.protocol.latency import compare, onnx_runner, torch_runner
from effxfer.benchmark.protocol.runners import batch_of, feed_for, open_session, torch_input
from effxfer.errors import ModelFileError
from tests.benchmark.models import linear, photo


def test_an_onnx_runner_gives_the_models_output(tmp_path):
    file = linear(tmp_path / "m.onnx", width=4, classes=3)
    feed = {"x": np.ones((2, 4), np.float32)}
    (out,) = onnx_runner(file, feed)()()
    np.testing.assert_array_equal(out, open_session(file, 1).run(None, feed)[0])
    assert out.shape == (2, 3)


def test_a_session_gets_its_threads(tmp_path):
    assert open_session(linear(tmp_path / "m.onnx"), 2).get_session_options().intra_op_num_threads == 2


def test_an_absent_or_broken_file_is_named(tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_text("not a model")
    for file in (tmp_path / "none.onnx", broken):
        with pytest.raises(ModelFileError, match=file.name):
            open_session(file, 1)


class Watch(torch.nn.Module):
    """Notes the circumstances under which it is called."""

    def forward(self, x):
        self.seen = (torch.get_num_threads(), torch.is_inference_mode_enabled(), self.training)
        return x + 1


def test_a_torch_runner_evaluates_in_inference_mode_with_its_threads_and_restores_them():
    before, module = torch.get_num_threads(), Watch().train()
    run = torch_runner(lambda: module, np.zeros((1, 2), np.float32), threads=2)()
    assert torch.equal(run(), torch.ones(1, 2))
    assert module.seen == (2, True, False)
    run.close()
    assert torch.get_num_threads() == before


def test_torch_and_onnx_are_compared_for_real(tmp_path):
    file = linear(tmp_path / "m.onnx")
    feed = feed_for(file)
    timings = compare(
        {"onnx": onnx_runner(file, feed), "eager": torch_runner(lambda: torch.nn.Linear(4, 3), torch.zeros(1, 4))},
        baseline="onnx",
        max_seconds=0.3,
        min_seconds=0,
    )
    assert [t.name for t in timings] == ["onnx", "eager"]
    assert all(0 < t.p50 <= t.p95 <= t.p99 and t.ratio_low <= t.ratio <= t.ratio_high for t in timings)


def test_a_feed_has_the_models_shapes_and_types(tmp_path):
    feed = feed_for(linear(tmp_path / "m.onnx", width=6), batch=3)
    assert (feed["x"].shape, feed["x"].dtype) == ((3, 6), np.float32)
    image = feed_for(photo(tmp_path / "p.onnx"), batch=2, size=40)["image"]
    assert (image.shape, image.dtype) == ((2, 40, 40, 3), np.uint8)


def test_the_batch_that_was_fed_is_known(tmp_path):
    assert batch_of(feed_for(linear(tmp_path / "free.onnx"), batch=3)) == 3
    assert batch_of(feed_for(linear(tmp_path / "fixed.onnx", batch=2), batch=3)) == 2
    assert batch_of({"threshold": np.array(0.5), "x": np.zeros((4, 1))}) == 4
    assert batch_of({"threshold": np.array(0.5)}) == 1


@pytest.mark.parametrize(("stated", "side"), [(96, 96), (None, 224)])
def test_a_free_side_is_what_the_file_states(tmp_path, stated, side):
    assert feed_for(photo(tmp_path / "p.onnx", stated))["image"].shape == (1, side, side, 3)


def test_a_feed_follows_its_seed(tmp_path):
    file = linear(tmp_path / "m.onnx")
    first, again, other = (feed_for(file, seed=seed)["x"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_photographs_become_channels_first_floats_for_torch():
    image = np.arange(24, dtype=np.uint8).reshape(1, 2, 4, 3)
    tensor = torch_input({"image": image})
    assert (tensor.shape, tensor.dtype) == ((1, 3, 2, 4), np.float32)
    assert tensor[0, 2, 1, 3] == image[0, 1, 3, 2]
    assert torch_input({"x": np.ones((2, 3, 8, 8), np.float32)}).shape == (2, 3, 8, 8)
