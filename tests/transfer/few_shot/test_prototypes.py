from dataclasses import replace

import pytest
import torch

from effxfer.errors import DataError, SettingsError
from effxfer.net.heads.prototypes import class_means
from effxfer.settings import build
from effxfer.stages.train.finetune import train
from effxfer.stages.train.head import new_head
from effxfer.stages.train.target_domain import evaluate_target
from effxfer.train.settings import FitSettings
from effxfer.train.state import Work
from effxfer.transfer.few_shot.prototypes import PrototypeNet
from effxfer.transfer.fine_tuning.linear import features_of
from tests.transfer.domains import PLAIN, body, new_classes, task_of
from tests.transfer.tasks import CPU, adapt

EPISODES = {**PLAIN, "batch": 1, "way": 6, "shot": 5, "query": 5, "episodes": 50}


def test_new_classes_are_told_apart_better():
    """The claim, against the null setting: no episode."""
    given = new_classes()
    net, *_ = adapt(build(PrototypeNet, EPISODES, "o"), given, net=body(), epochs=2)
    null, *_ = adapt(build(PrototypeNet, EPISODES, "o"), given, net=body(), epochs=0)
    reached, before = (evaluate_target(one, given, CPU)["accuracy/target 4-way 1-shot"] for one in (net, null))
    assert reached.low > before.high + 5, "the intervals of 600 episodes do not touch"


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_the_head_is_the_means_of_the_training_images(distance):
    given = task_of(range(4))
    strategy = build(PrototypeNet, {**EPISODES, "way": 4, "episodes": 5, "distance": distance}, "o")
    net, *_ = adapt(strategy, given, net=body(), epochs=1)
    means = class_means(*features_of(net, given), 4)
    torch.testing.assert_close(net.head.out.weight.detach(), means)
    assert net.edits[-1]["spec"] == {"kind": "prototypes", "distance": distance}


def test_the_epoch_is_chosen_by_the_prototypes_of_its_own_weights():
    given, strategy = task_of(range(4)), build(PrototypeNet, {**EPISODES, "way": 4, "episodes": 5}, "o")
    net, *_, rows = adapt(strategy, given, net=body(), epochs=3, keep="best")
    assert strategy.judge(net, [given], CPU) == max(row["score"] for row in rows)


def test_an_episode_has_different_images_of_different_classes():
    strategy = build(
        PrototypeNet, {"way": 5, "shot": 1, "query": 2, "episodes": 4, "augment": {"crop": "none", "flip": False}}, "o"
    )
    given = task_of(range(10))
    numbered = replace(given.train, rows=given.train.rows * 0)
    numbered.rows[:, 0, 0, 0] = given.train.labels
    numbered.rows[:, 0, 0, 1], numbered.rows[:, 0, 0, 2] = divmod(torch.arange(600).numpy(), 256)
    batches = strategy.draw(None, [replace(given, train=numbered)], CPU.torch)(0)
    assert len(batches) == 4
    (episode,) = batches[0]
    assert episode.shape == (5, 3, 3, 16, 16)
    corner = (episode[..., 0, 0] * 63.75 + 127.5).round().int()
    assert all(len(set(row.tolist())) == 1 for row in corner[..., 0])
    assert len(set(corner[:, 0, 0].tolist())) == 5
    assert len({tuple(one) for one in corner.flatten(0, 1).tolist()}) == 15
    assert torch.equal(batches[0], strategy.draw(None, [replace(given, train=numbered)], CPU.torch)(0)[0][None][0])


def test_rotations_make_classes():
    told = {**EPISODES, "way": 12, "shot": 1, "rotations": True, "augment": {"crop": "none", "flip": False}}
    given = task_of(range(3))
    with pytest.raises(DataError, match="3 classes of digits have the 6 training images"):
        build(PrototypeNet, {**told, "rotations": False}, "o").draw(None, [given], CPU.torch)
    (episode,) = build(PrototypeNet, told, "o").draw(None, [given], CPU.torch)(0)[0]
    known = {one.numpy().tobytes() for one in torch.from_numpy(given.train.rows).permute(0, 3, 1, 2)}
    back = (episode * 63.75 + 127.5).round().to(torch.uint8)
    turned = [
        [turn for turn in range(4) if one.rot90(-turn, (-2, -1)).contiguous().numpy().tobytes() in known]
        for one in back[:, 0]
    ]
    assert sorted(min(turns) for turns in turned) == sorted([0, 1, 2, 3] * 3)


def test_another_head_is_refused_where_none_can_be_made():
    given, net = task_of(range(3)), body()
    new_head(net, given, 0)
    with pytest.raises(SettingsError, match="no head of prototypes with euclidean distance"):
        train(net, [given], PrototypeNet(), FitSettings(epochs=0), device=CPU, seed=0, work=Work(None))


@pytest.mark.parametrize(
    ("options", "words"), [({"augment": {"mixup": 0.2}}, "no effect"), ({"episodes": 2, "batch": 3}, "no step")]
)
def test_what_makes_no_sense_is_refused(options, words):
    with pytest.raises(SettingsError, match=words):
        build(PrototypeNet, options, "options")


def test_too_few_images_are_said():
    with pytest.raises(DataError, match="0 classes of digits have the 101 training images"):
        PrototypeNet(shot=100, query=1, way=2).draw(None, [task_of(range(3))], CPU.torch)
