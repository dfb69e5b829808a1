import torch

from effxfer.train.representation import knn
from effxfer.train.representation.knn import knn_scores


def test_votes_are_those_of_the_nearest_by_cosine():
    features = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 2.0], [-5.0, 0.0]])
    labels = torch.tensor([0, 0, 1, 2])
    queries = torch.tensor([[10.0, 0.1], [0.1, 0.1]])
    assert knn_scores(features, labels, queries, 1).argmax(1).tolist() == [0, 0]
    expected = [(torch.tensor(c) / 0.1).exp() for c in torch.cosine_similarity(queries[:1], features).tolist()]
    scores = knn_scores(features, labels, queries, 4)[0]
    torch.testing.assert_close(scores, torch.stack([expected[0] + expected[1], expected[2], expected[3]]))


def test_more_neighbours_than_examples_and_blocks_change_nothing(monkeypatch):
    rng = torch.Generator().manual_seed(0)
    features, queries = torch.randn(9, 4, generator=rng), torch.randn(7, 4, generator=rng)
    labels = torch.tensor([0, 1, 2] * 3)
    whole = knn_scores(features, labels, queries, 99)
    monkeypatch.setattr(knn, "ROWS", 2)
    torch.testing.assert_close(knn_scores(features, labels, queries, 9), whole)
