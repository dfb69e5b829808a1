import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from effxfer.errors import SettingsError
from effxfer.transfer.domain_adaptation.density_ratio.discriminator import discriminate, normalize_weights
from effxfer.transfer.domain_adaptation.density_ratio.kmm import MOST_EXAMPLES, match_kernel_means, project

ESTIMATES = [discriminate, match_kernel_means]


def draw(count, mean=0.0, seed=0) -> torch.Tensor:
    return torch.randn(count, 2, generator=torch.Generator().manual_seed(seed)) + mean


@pytest.mark.parametrize("estimate", ESTIMATES)
def test_weights_have_the_mean_1_and_stay_within_their_bound(estimate):
    weights = estimate(draw(300), draw(100, 1.0, seed=1), 5.0)
    assert weights.shape == (300,)
    assert (weights >= 0).all()
    assert weights.max() <= 5 + 1e-5
    torch.testing.assert_close(weights.mean(), torch.tensor(1.0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("estimate", ESTIMATES)
def test_what_is_frequent_in_the_target_weighs_more(estimate):
    """Of two normals a mean of 1 apart, the true ratio is exp(x + y - 1)."""
    source = draw(400)
    weights = estimate(source, draw(400, 1.0, seed=1), 20.0)
    true = (source.sum(1) - 1).exp().clamp_max(20)
    assert torch.corrcoef(torch.stack([weights, true]))[0, 1] > 0.7
    moved = (weights[:, None] * source).mean(0)
    assert (moved - 1).abs().max() < 0.35, "the weighted source has the target's mean"


@pytest.mark.parametrize("estimate", ESTIMATES)
def test_a_bound_of_1_is_no_weight(estimate):
    assert torch.allclose(estimate(draw(50), draw(50, 1.0, seed=1), 1.0), torch.ones(50), atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(1e-6, 1e6), min_size=2, max_size=20), st.floats(1.01, 50))
def test_scaled_and_projected_weights_keep_mean_and_bound(values, bound):
    weights = torch.tensor(values, dtype=torch.float64)
    for result in (normalize_weights(weights, bound).double(), project(weights, bound)):
        assert result.mean().item() == pytest.approx(1, rel=1e-4)
        assert result.min() >= 0
        assert result.max() <= bound * (1 + 1e-6)


def test_too_many_pairs_are_refused():
    with pytest.raises(SettingsError, match="kmm compares all pairs"):
        match_kernel_means(torch.zeros(MOST_EXAMPLES + 1, 1), torch.zeros(3, 1), 5.0)
