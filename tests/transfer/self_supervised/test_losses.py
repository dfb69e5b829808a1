"""Each loss is what a slow formula in loops says, on random numbers in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from effxfer.transfer.self_supervised.barlow_twins import redundancy
from effxfer.transfer.self_supervised.moco import contrast_with_queue
from effxfer.transfer.self_supervised.simclr import contrast
from effxfer.transfer.self_supervised.two_views import negative_cosine
from effxfer.transfer.self_supervised.vicreg import covariance_penalty, variance_hinge

SIZES = (st.integers(2, 7), st.integers(1, 6), st.integers(0, 999))


def two(count: int, width: int, seed: int) -> tuple[Tensor, Tensor]:
    first, second = torch.randn(2, count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return first, second


def cosine(a: Tensor, b: Tensor) -> float:
    dot = sum(float(x) * float(y) for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(float(x) ** 2 for x in a)) / math.sqrt(sum(float(y) ** 2 for y in b))


def close(value: Tensor, expected: float) -> bool:
    return float(value) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@given(*SIZES, st.floats(0.05, 2))
@settings(deadline=None, max_examples=30)
def test_simclr_picks_the_other_view_among_all_views(count, width, seed, temperature):
    first, second = two(count, width, seed)
    views = [*first, *second]
    total = 0.0
    for i, view in enumerate(views):
        partner = views[(i + count) % (2 * count)]
        others = [math.exp(cosine(view, other) / temperature) for j, other in enumerate(views) if j != i]
        total -= math.log(math.exp(cosine(view, partner) / temperature) / sum(others))
    assert close(contrast(first, second, temperature), total / (2 * count))


@given(*SIZES, st.floats(0.05, 2))
@settings(deadline=None, max_examples=30)
def test_moco_picks_the_key_among_it_and_the_queue(count, width, seed, temperature):
    queries, keys = two(count, width, seed)
    queue = torch.nn.functional.normalize(two(5, width, seed + 1)[0], dim=1)
    total = 0.0
    for query, key in zip(queries, keys, strict=True):
        right = math.exp(cosine(query, key) / temperature)
        total -= math.log(right / (right + sum(math.exp(cosine(query, other) / temperature) for other in queue)))
    assert close(contrast_with_queue(queries, keys, queue, temperature), total / count)


@given(*SIZES)
@settings(deadline=None, max_examples=30)
def test_byol_and_simsiam_have_minus_the_mean_cosine(count, width, seed):
    first, second = two(count, width, seed)
    expected = -sum(cosine(a, b) for a, b in zip(first, second, strict=True)) / count
    assert close(negative_cosine(first, second), expected)
    unit = [torch.nn.functional.normalize(view, dim=1) for view in (first, second)]
    distance = (unit[0] - unit[1]).square().sum(1).mean()
    assert close(distance, 2 + 2 * expected)


def standardized(column: list[float]) -> list[float]:
    mean = sum(column) / len(column)
    variance = sum((x - mean) ** 2 for x in column) / len(column)
    return [(x - mean) / math.sqrt(variance + 1e-5) for x in column]


@given(*SIZES)
@settings(deadline=None, max_examples=30)
def test_barlow_twins_correlates_each_unit_with_all(count, width, seed):
    views = two(count, width, seed)
    first, second = ([standardized(column.tolist()) for column in view.mT] for view in views)
    same = different = 0.0
    for i in range(width):
        for j in range(width):
            correlation = sum(a * b for a, b in zip(first[i], second[j], strict=True)) / count
            same += (1 - correlation) ** 2 if i == j else 0
            different += 0 if i == j else correlation**2
    terms = redundancy(*views)
    assert close(terms[0], same)
    assert close(terms[1], different)


@given(*SIZES)
@settings(deadline=None, max_examples=30)
def test_vicreg_keeps_units_spread_and_uncorrelated(count, width, seed):
    view, _ = two(count, width, seed)
    columns = view.mT.tolist()
    means = [sum(column) / count for column in columns]
    hinge = penalty = 0.0
    for i in range(width):
        for j in range(width):
            pairs = zip(columns[i], columns[j], strict=True)
            covariance = sum((a - means[i]) * (b - means[j]) for a, b in pairs) / (count - 1)
            hinge += max(0.0, 1 - math.sqrt(covariance + 1e-4)) if i == j else 0
            penalty += 0 if i == j else covariance**2
    assert close(variance_hinge(view), hinge / width)
    assert close(covariance_penalty(view), penalty / width)
