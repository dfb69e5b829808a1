import pytest
import torch

from effxfer.net.conv4 import conv4
from effxfer.net.heads.prototypes import Prototypes, class_means, prototype_logits
from effxfer.net.heads.spec import HeadSpec

GENERATOR = torch.Generator().manual_seed(0)


def test_euclidean_nearness_is_the_distance_but_for_what_all_classes_share():
    x, points = torch.randn(7, 5, generator=GENERATOR), torch.randn(3, 5, generator=GENERATOR)
    far = -(torch.cdist(x, points) ** 2)
    torch.testing.assert_close(prototype_logits(x, points).softmax(1), far.softmax(1))
    torch.testing.assert_close(prototype_logits(x, points) - (x * x).sum(1, keepdim=True), far)


def test_cosine_nearness_ignores_lengths():
    x, points = torch.randn(7, 5, generator=GENERATOR), torch.randn(3, 5, generator=GENERATOR)
    scaled = prototype_logits(3 * x, torch.tensor([[0.5], [2.0], [9.0]]) * points, "cosine")
    torch.testing.assert_close(scaled, prototype_logits(x, points, "cosine"))
    assert prototype_logits(points, points, "cosine").diagonal().tolist() == pytest.approx([10] * 3)
    assert prototype_logits(torch.zeros(1, 5), points, "cosine").tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_a_head_compares_with_its_own_weights(distance):
    head, x = Prototypes(HeadSpec(kind="prototypes", distance=distance), 5, 3), torch.randn(7, 5, generator=GENERATOR)
    torch.testing.assert_close(head(x), prototype_logits(x, head.out.weight, distance))


def test_class_means_by_hand():
    features = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 0.0]])
    means = class_means(features, torch.tensor([0, 0, 2]), 3)
    assert means.tolist() == [[2, 3], [0, 0], [5, 0]]


def test_conv4_has_the_papers_size():
    net = conv4()
    assert net(torch.zeros(2, 3, 28, 28)).shape == (2, 64, 1, 1)
    assert sum(p.numel() for p in net.parameters()) == 112_832


@pytest.mark.parametrize("transform", ["none", "l2", "cl2n"])
def test_a_head_compares_transformed_features_with_their_means(transform):
    head = Prototypes(HeadSpec(kind="prototypes", transform=transform), 5, 3)
    x, labels = 4 + torch.randn(9, 5, generator=GENERATOR), torch.arange(9) % 3
    head.fit_(x, labels)
    expected = x - x.mean(0) if transform == "cl2n" else x
    expected = expected / expected.norm(dim=1, keepdim=True) if transform != "none" else expected
    torch.testing.assert_close(head.transform(x), expected)
    torch.testing.assert_close(head.out.weight.detach(), class_means(expected, labels, 3))
    torch.testing.assert_close(head(x), prototype_logits(expected, head.out.weight))


def test_a_learned_comparison_sees_both_sides():
    head = Prototypes(HeadSpec(kind="prototypes", distance="relation", hidden=7), 5, 3)
    x, relation = torch.randn(4, 5, generator=GENERATOR), head.relation
    pair = torch.cat([x[1], head.out.weight[2]])
    both = torch.cat([relation.query.weight, relation.prototype.weight], 1)
    expected = relation.score((both @ pair + relation.query.bias).relu())
    torch.testing.assert_close(head(x)[1, 2], expected[0])
    assert head(x).shape == (4, 3)
