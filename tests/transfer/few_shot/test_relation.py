from contextlib import nullcontext

import pytest
import torch

from effxfer.errors import SettingsError
from effxfer.settings import build
from effxfer.stages.prune.preconditions import check_prunable
from effxfer.stages.settings.prune_settings import Channels
from effxfer.stages.train.head import new_head
from effxfer.transfer import STRATEGIES
from effxfer.transfer.few_shot.relation import RelationNet
from tests.transfer.domains import body, task_of
from tests.transfer.few_shot.conftest import EPISODES
from tests.transfer.tasks import adapt


@pytest.mark.slow
def test_new_classes_are_told_apart_better(one_shot):
    """The claim, against the null setting: no episode, and so a comparison at random."""
    assert one_shot(RelationNet, EPISODES, epochs=4).low > one_shot(RelationNet, EPISODES, epochs=0).high + 5


def test_the_comparison_is_trained_and_the_prototypes_are_not():
    given, strategy = task_of(range(4)), build(RelationNet, {**EPISODES, "way": 4, "episodes": 3, "width": 8}, "o")
    net, before, after, _ = adapt(strategy, given, net=body(), epochs=1)
    assert net.head.relation.query.out_features == 8
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert {"head.relation.query.weight", "head.relation.prototype.weight", "head.relation.score.bias"} <= {*changed}
    torch.testing.assert_close(net(torch.zeros(1, 3, 16, 16)), net.head(net.features(torch.zeros(1, 3, 16, 16))))


@pytest.mark.parametrize(("strategy", "is_refused"), [("relation", True), ("prototypes", False)])
def test_channels_below_a_learned_comparison_stay(strategy, is_refused):
    net = body()
    new_head(net, task_of(range(3)), 0, build(STRATEGIES[strategy], {}, "options").head())
    settings = build(Channels, {"ratio": 0.5}, "prune channels")
    with pytest.raises(SettingsError, match="learned comparison") if is_refused else nullcontext():
        check_prunable("prune channels", net, settings)
    check_prunable("prune lottery", net, settings)
