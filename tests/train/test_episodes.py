import numpy as np
import pytest
import torch

from effxfer.net.heads.prototypes import prototype_logits
from effxfer.train.episodes import measure_few_shot


def test_chance_and_certainty():
    labels = np.arange(8).repeat(20)
    noise = torch.randn(160, 16, generator=torch.Generator().manual_seed(0))
    sure, none = (
        measure_few_shot(torch.eye(8)[labels], labels, prototype_logits, "x"),
        measure_few_shot(noise, labels, prototype_logits, "x"),
    )
    assert [(row.name, row.value, row.low, row.high, row.n) for row in sure.rows] == [
        ("x 5-way 1-shot", 100, 100, 100, 600), ("x 5-way 5-shot", 100, 100, 100, 600),
    ]  # fmt: skip
    assert none["x 5-way 1-shot"].value == pytest.approx(20, abs=1.5)
    low, high = none["x 5-way 1-shot"].low, none["x 5-way 1-shot"].high
    assert low < 20 < high or abs(none["x 5-way 1-shot"].value - 20) < 1.5
    assert 0 < high - low < 2


def test_more_shots_help_and_the_same_seed_gives_the_same_episodes():
    labels = np.arange(25).repeat(20)
    x = torch.eye(25)[labels] + 0.5 * torch.randn(500, 25, generator=torch.Generator().manual_seed(1))
    found = measure_few_shot(x, labels, prototype_logits, "x")
    assert [row.name for row in found.rows] == [f"x {w}-way {k}-shot" for w in (5, 20) for k in (1, 5)]
    assert found["x 20-way 5-shot"].low > found["x 20-way 1-shot"].high
    assert found["x 5-way 1-shot"].low > found["x 20-way 1-shot"].high
    assert measure_few_shot(x, labels, prototype_logits, "x") == found
    assert measure_few_shot(x, labels, prototype_logits, "x", seed=1) != found


def test_few_classes_and_few_images_make_smaller_episodes():
    labels = np.array([4, 4, 4, 7, 7, 7])
    (row,) = measure_few_shot(torch.eye(8)[labels], labels, prototype_logits, "x").rows
    assert row.name == "x 2-way 1-shot"
    assert row.of == "queries, 2 per class and episode"
