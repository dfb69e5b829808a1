import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from effxfer.transfer.fine_tuning.full import Full
from effxfer.transfer.regularized.bss import Bss, smallest_spectrum
from effxfer.transfer.regularized.reference_model import capture_head_inputs
from tests.transfer.tasks import adapt, task

PLAIN = {"batch": 12, "augment": {"crop": "none", "flip": False}}


@given(st.integers(2, 9), st.integers(2, 9), st.integers(1, 3), st.integers(0, 999))
@settings(deadline=None)
def test_it_is_the_sum_of_the_smallest_squared_singular_values(rows, columns, count, seed):
    x = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    expected = torch.linalg.svdvals(x.double()).flip(0)[:count].square().sum()
    torch.testing.assert_close(smallest_spectrum(x, count).double(), expected, rtol=1e-3, atol=1e-4)


def test_its_slope_is_finite_where_singular_values_are_equal():
    x = torch.eye(4, requires_grad=True)
    smallest_spectrum(x, 2).backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_the_weakest_directions_of_the_features_shrink():
    """The claim, against the null setting; which is plain fine-tuning bit for bit."""
    given = task()
    images = torch.from_numpy(given.test.rows[:12]).permute(0, 3, 1, 2) / 63.75 - 2
    plain, _, weights, _ = adapt(Full(**PLAIN), given)
    _, _, null, _ = adapt(Bss(**PLAIN, eta=0.0), given)
    assert all(torch.equal(weights[name], null[name]) for name in weights)
    shrunk, *_ = adapt(Bss(**PLAIN, eta=1.0, values=6), given)

    def share(net):
        with torch.inference_mode(), capture_head_inputs(net) as seen:
            net(images)
        return float(smallest_spectrum(seen[0], 6) / seen[0].square().sum())

    assert share(shrunk) < 0.5 * share(plain)
