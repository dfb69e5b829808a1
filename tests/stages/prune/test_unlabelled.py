from dataclasses import replace

import numpy as np
import pytest

from effxfer.runtime.outputs.multi_label import MultiLabel
from effxfer.stages.prune import unlabelled
from effxfer.stages.prune.unlabelled import with_answers
from effxfer.train.evaluate import predict
from effxfer.transfer.fine_tuning.full import Full
from tests.transfer.tasks import CPU, adapt, task


@pytest.fixture(scope="module")
def trained():
    stripes = task()
    net, *_ = adapt(Full(batch=12), stripes, epochs=2)
    return net.eval(), stripes


def test_images_without_labels_are_trained_on_with_the_answers_of_the_network(trained):
    net, stripes = trained
    more = with_answers(stripes, net, CPU)
    count = len(stripes.train)
    assert len(more.train) == count + len(stripes.unlabelled)
    assert (more.train.labels[:count] == stripes.train.labels).all()
    answers = predict(net, stripes.unlabelled.rows, net.input, CPU).argmax(1).numpy()
    assert (more.train.labels[count:] == answers).all()
    assert (more.train.rows[count:] == stripes.unlabelled.rows).all()
    assert more.val is stripes.val


def test_no_more_images_take_part_than_there_is_room_for(trained, monkeypatch):
    net, stripes = trained
    monkeypatch.setattr(unlabelled, "MOST_IMAGES", len(stripes.train) + 3)
    more = with_answers(stripes, net, CPU)
    assert (more.train.rows[-3:] == stripes.unlabelled.rows[[0, 48, 95]]).all()
    assert more.notes[-1].startswith("3 images without labels")
    monkeypatch.setattr(unlabelled, "MOST_IMAGES", len(stripes.train))
    assert with_answers(stripes, net, CPU) is stripes
    assert with_answers(replace(stripes, target=stripes), net, CPU).train is stripes.train, "those of a target domain"


def test_decoded_again_the_answers_are_the_same(trained):
    net, stripes = trained

    class Loader:
        def load(self, input):
            return replace(stripes, input=input, loader=self)

    more = with_answers(replace(stripes, loader=Loader()), net, CPU)
    again = more.with_input(more.input.with_size(24))
    assert again.input.size == 24
    assert (again.train.labels == more.train.labels).all()


def test_other_labels_have_no_answers(trained):
    net, stripes = trained
    assert with_answers(replace(stripes, unlabelled=None), net, CPU).train is stripes.train
    several = replace(stripes, output=MultiLabel(classes=stripes.classes), train=replace(
        stripes.train, labels=np.eye(2, dtype=np.uint8)[stripes.train.labels]))  # fmt: skip
    assert with_answers(several, net, CPU) is several
