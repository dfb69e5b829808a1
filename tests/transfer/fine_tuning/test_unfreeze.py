import torch
from hypothesis import given
from hypothesis import strategies as st

from effxfer.train.optim.param_groups import block, is_head
from effxfer.transfer.fine_tuning.full import Full
from effxfer.transfer.fine_tuning.unfreeze import Unfreeze, count_learning_blocks
from tests.transfer.tasks import adapt, body, task

PLAIN = {"batch": 12, "augment": {"crop": "none", "flip": False}}


@given(st.integers(1, 40), st.floats(0, 1), st.lists(st.floats(0, 0.999), min_size=2))
def test_blocks_join_one_after_the_other_and_stay(blocks, over, times):
    counts = [count_learning_blocks(blocks, progress, over) for progress in sorted(times)]
    assert counts == sorted(counts)
    assert all(0 <= count <= blocks for count in counts)
    assert count_learning_blocks(blocks, over, over) == blocks


def test_the_upper_blocks_learn_first():
    net, seen = body(), []
    strategy = Unfreeze(**PLAIN, over=0.9)
    learner = strategy.prepare(net, [task()])
    for progress in (0.0, 0.3, 0.6, 0.9):
        strategy.begin_epoch(learner, progress)
        learning = {block(n) for n, p in net.named_parameters() if p.requires_grad and not is_head(n)}
        evaluated = not net.body.stem.training
        seen.append(learning)
        assert evaluated == ("stem.0" not in learning), "BatchNorm of what waits does not move"
    assert seen[0] == set()
    assert seen[1] < seen[2] < seen[3]
    assert "stage3.2" in seen[1]
    assert "stem.0" in seen[3] - seen[2]


def test_what_lies_below_ends_nearer_to_where_it_started():
    """The claim, against the null setting; which is plain fine-tuning bit for bit."""
    given = task()
    _, before, plain, _ = adapt(Full(**PLAIN), given, epochs=3)
    _, _, null, _ = adapt(Unfreeze(**PLAIN, over=0), given, epochs=3)
    assert all(torch.equal(plain[name], null[name]) for name in plain)
    _, _, late, _ = adapt(Unfreeze(**PLAIN, over=1), given, epochs=3)
    names = [name for name in before if name.startswith("body.stem") and before[name].is_floating_point()]
    far = [sum(float((after[n] - before[n]).square().sum()) for n in names) for after in (late, plain)]
    assert far[0] < 0.5 * far[1]
