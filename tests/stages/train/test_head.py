from dataclasses import replace

import numpy as np
import pytest

from effxfer.errors import DataError
from effxfer.net.edits import rebuild
from effxfer.runtime.outputs.multi_label import MultiLabel, macro_f1
from effxfer.stages.train.head import choose_thresholds, new_head, require_same_output
from effxfer.train.evaluate import predict
from effxfer.transfer.fine_tuning.lp_ft import LpFt
from tests.transfer.tasks import CPU, adapt, body, task

OUTPUT = MultiLabel(classes=("across", "down"))


def several():
    """The task of stripes with a column for each direction."""
    plain = task()
    splits = {
        name: replace(split, labels=np.stack([split.labels, 1 - split.labels], 1).astype(np.uint8))
        for name, split in (("train", plain.train), ("val", plain.val), ("test", plain.test))
    }
    return replace(plain, output=OUTPUT, **splits)


def f1(net, split):
    return macro_f1(net.output.decide(predict(net, split.rows, net.input, CPU).numpy()), split.labels)


def test_thresholds_are_chosen_on_validation_and_recorded_once():
    given, net = several(), body()
    assert new_head(net, given, 0)
    before = f1(net, given.val)
    for _ in range(2):
        choose_thresholds(net, given, CPU)
    assert [edit["kind"] for edit in net.edits] == ["set_head", "set_output"]
    assert f1(net, given.val) >= before
    again = rebuild(net.backbone, net.edits, net.input, net.classes)
    assert again.output == net.output
    assert len(again.output.thresholds) == 2


def test_a_head_that_was_solved_without_epochs_has_thresholds_too():
    net, *_ = adapt(LpFt(), several(), epochs=0)
    assert net.output.thresholds
    assert any(net.output.thresholds)


def test_single_labels_have_none():
    net, *_ = adapt(LpFt(), task(), epochs=0)
    assert [edit["kind"] for edit in net.edits] == ["set_head"]


def test_a_network_for_another_kind_of_label_gets_a_new_head():
    given, net = task(), body()
    assert new_head(net, given, 0)
    assert not new_head(net, given, 0)
    assert new_head(net, replace(several(), output=MultiLabel(classes=given.classes)), 0)


def test_a_network_that_answers_another_question_is_refused():
    net = body()
    new_head(net, several(), 0)
    with pytest.raises(DataError, match="labels of kind 'multi', the data hold kind 'single'"):
        require_same_output(net, task())
    with pytest.raises(DataError, match="the network knows"):
        require_same_output(net, replace(several(), output=MultiLabel(classes=("down", "across"))))
