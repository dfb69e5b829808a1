import json

import numpy as np

from effxfer.runtime.outputs.multi_label import MultiLabel
from effxfer.runtime.outputs.predictions import (
    MultiLabelPrediction,
    Prediction,
    RegressionPrediction,
    rank,
    to_predictions,
)
from effxfer.runtime.outputs.regression import Regression
from effxfer.runtime.outputs.single_label import SingleLabel

NAMES = ("a", "b", "c")
LOGITS = np.array([[0.0, 2.0, -1.0], [-3.0, -2.0, -4.0]], np.float32)


def predictions(output, top=1):
    return to_predictions(output, output.to_answers(LOGITS), output.decide(LOGITS), top)


def test_one_of_several_classes():
    first, second = predictions(SingleLabel(classes=NAMES), top=2)
    assert (first.label, second.label) == ("b", "b")
    assert first.top[0] == (first.label, first.probability)
    assert [name for name, _ in first.top] == ["b", "a"]
    assert first.to_json()["top"][0] == {"label": "b", "probability": round(first.probability, 6)}


def test_classes_above_their_thresholds_the_most_probable_first():
    first, second = predictions(MultiLabel(classes=NAMES, thresholds=(-0.5, 1.0, -2.0)), top=2)
    assert [name for name, _ in first.labels] == ["b", "a", "c"]
    assert second.labels == ()
    assert [name for name, _ in second.top] == ["b", "a"]
    np.testing.assert_allclose([p for _, p in first.labels], [0.880797, 0.5, 0.268941], atol=1e-6)
    assert second.to_json() == {"labels": [], "top": [{"label": "b", "probability": 0.119203},
                                                      {"label": "a", "probability": 0.047426}]}  # fmt: skip


def test_a_class_need_not_be_the_most_probable_one_to_apply():
    first, _ = predictions(MultiLabel(classes=NAMES, thresholds=(-1.0, 3.0, 3.0)))
    assert ([name for name, _ in first.labels], [name for name, _ in first.top]) == (["a"], ["b"])


def test_values_in_their_units_by_name():
    output = Regression(classes=NAMES, mean=(1.0, 0.0, 10.0), deviation=(1.0, 2.0, 0.5))
    first, second = predictions(output)
    assert first == RegressionPrediction({"a": 1.0, "b": 4.0, "c": 9.5})
    assert json.loads(json.dumps(second.to_json())) == {"values": {"a": -2.0, "b": -4.0, "c": 8.0}}


def test_equal_classes_keep_their_order_and_at_least_one_is_named():
    assert rank(NAMES, np.array([0.4, 0.2, 0.4]), 3) == (("a", 0.4), ("c", 0.4), ("b", 0.2))
    assert isinstance(predictions(SingleLabel(classes=NAMES), top=0)[0], Prediction)
    assert isinstance(predictions(MultiLabel(classes=NAMES), top=99)[0], MultiLabelPrediction)
