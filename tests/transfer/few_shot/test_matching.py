import pytest
import torch
from torch.nn import functional as F

from effxfer.errors import SettingsError
from effxfer.net.heads.prototypes import prototype_logits
from effxfer.settings import build
from effxfer.transfer.few_shot.matching import Matching, attention
from effxfer.transfer.few_shot.prototypes import PrototypeNet
from tests.transfer.few_shot.conftest import EPISODES

GENERATOR = torch.Generator().manual_seed(0)


@pytest.mark.slow
def test_new_classes_are_told_apart_better(one_shot):
    """The claim, against the null setting: no episode."""
    assert one_shot(Matching, EPISODES).low > one_shot(Matching, EPISODES, epochs=0).high + 5


def test_attention_by_hand():
    """Equation 1 of the paper: the sum over the support of softmaxed similarity times label."""
    queries, support = torch.randn(4, 5, generator=GENERATOR), torch.randn(6, 5, generator=GENERATOR)
    similarity = prototype_logits(queries, support, "cosine")
    labels = F.one_hot(torch.arange(3).repeat_interleave(2)).float()
    expected = torch.stack([(row.softmax(0)[:, None] * labels).sum(0) for row in similarity])
    torch.testing.assert_close(attention(similarity, 2).softmax(1), expected)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_with_one_shot_it_is_the_nearest_prototype(distance):
    features = torch.randn(6, 4, 8, generator=GENERATOR)
    told = {**EPISODES, "shot": 1, "query": 3, "distance": distance}
    losses = [build(kind, told, "options").episode_losses(None, features) for kind in (Matching, PrototypeNet)]
    torch.testing.assert_close(*losses)


def test_an_epoch_without_a_step_is_refused():
    with pytest.raises(SettingsError, match="no step"):
        build(Matching, {"episodes": 2, "batch": 3}, "options")
