import pytest
import torch

from effxfer.train.representation.rankme import effective_rank, sample_rows


@pytest.mark.parametrize("rank", [1, 2, 5, 16])
def test_orthogonal_directions_of_equal_length_are_counted(rank):
    basis, _ = torch.linalg.qr(torch.randn(64, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    features = basis[:, :rank] @ torch.eye(rank, 16, dtype=torch.float64)
    assert effective_rank(features) == pytest.approx(rank, rel=1e-4)


def test_it_is_the_entropy_of_the_singular_values():
    values = torch.tensor([3.0, 2.0, 1.0])
    shares = values / 6 + 1e-7
    expected = (-(shares * shares.log()).sum()).exp()
    assert effective_rank(torch.diag(values)) == pytest.approx(float(expected), rel=1e-6)


def test_nothing_and_a_point_have_rank_one():
    assert effective_rank(torch.zeros(8, 4)) == 1
    assert effective_rank(torch.full((8, 4), 3.0)) == pytest.approx(1, abs=1e-4)


def test_rows_are_spread_over_all():
    assert sample_rows(5).tolist() == [0, 1, 2, 3, 4]
    assert sample_rows(100, 3).tolist() == [0, 50, 99]
