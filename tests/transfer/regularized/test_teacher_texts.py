"""A teacher reads the training texts of its student with its own tokenizer."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from effxfer.errors import SettingsError
from effxfer.prune.vocabulary.tokenizer import prune_tokenizer
from effxfer.runtime.rows import Ragged
from effxfer.stages.train.distillation import own_reader
from effxfer.transfer.regularized.teacher_texts import teacher_reader
from tests.tiny_text import TOKENS, texts
from tests.transfer.text_tasks import text_task

FEW = replace(TOKENS, tokenizer=prune_tokenizer(TOKENS.tokenizer, {0}).content)
TEXTS = texts(40)


class Texts:
    """Encodes the same texts for any tokenizer."""

    def load(self, input):
        task = text_task(train=len(TEXTS))
        rows = input.encode(TEXTS).rows
        return replace(task, train=replace(task.train, rows=rows), input=input, loader=self)


@pytest.mark.parametrize("student", [FEW, replace(FEW, size=12), replace(TOKENS, pattern="{text} the")])
def test_a_teacher_reads_each_text_as_it_would_alone(student):
    task = Texts().load(student)
    read = teacher_reader(TOKENS, task)
    chosen = np.random.default_rng(0).permutation(len(TEXTS))[:9]
    ids = read(torch.from_numpy(student.feed(task.train.rows[chosen])))
    expected = TOKENS.with_size(min(TOKENS.size, student.size)).encode([TEXTS[i] for i in chosen]).rows
    same = [
        i for i, place in enumerate(chosen)
        if sum(np.array_equal(task.train.rows.row(int(place)), row) for row in task.train.rows) == 1
    ]  # fmt: skip
    assert same
    for i in same:
        row = ids[i].numpy()
        np.testing.assert_array_equal(row[TOKENS.real(row)], expected.row(i))


def test_a_row_that_is_no_training_text_is_refused():
    task = Texts().load(FEW)
    other = FEW.feed(Ragged.of([np.arange(1, 5, dtype=np.int32)]))
    with pytest.raises(SettingsError, match="knows the training texts only"):
        teacher_reader(TOKENS, task)(torch.from_numpy(other))


def test_equal_tokenizers_need_no_reader():
    task = Texts().load(TOKENS)
    assert own_reader(TOKENS.with_size(64), task) is None
    assert own_reader(FEW, task) is not None
