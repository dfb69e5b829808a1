import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effxfer.runtime.outputs.multi_label import MultiLabel
from effxfer.runtime.outputs.registry import METRICS, OUTPUTS, output_from_json
from effxfer.runtime.outputs.regression import Regression
from effxfer.runtime.outputs.single_label import SingleLabel
from effxfer.runtime.outputs.span import Span
from effxfer.runtime.outputs.tagging import Tagging

EXAMPLES = [
    SingleLabel(classes=("a", "b")),
    MultiLabel(classes=("a", "b"), thresholds=(0.5, -1.25)),
    MultiLabel(classes=("a",)),
    Regression(classes=("age",), mean=(40.0,), deviation=(12.5,)),
    Span(threshold=(-0.5,)),
    Tagging(classes=("B-PER", "I-PER", "O")),
]


@pytest.mark.parametrize("output", EXAMPLES, ids=lambda output: output.kind)
def test_an_output_comes_back_from_json(output):
    assert output_from_json(json.loads(json.dumps(output.to_json()))) == output


def test_every_kind_has_an_example_and_a_metric():
    assert {output.kind for output in EXAMPLES} == set(OUTPUTS)
    assert METRICS == ("score", "mAP", "accuracy", "F1", "R2")


@pytest.mark.parametrize(("raw", "says"), [
    ({"kind": "boxes", "classes": ["a"]}, "kind 'boxes', none of multi, single, span, tags, value"),
    (None, "kind None"), ({"kind": []}, "kind"),
    ({"kind": "multi", "classes": []}, "labels are no list"),
    ({"kind": "multi", "classes": ["a"], "thresholds": [1, 2]}, "thresholds has 2 numbers for 1 columns"),
    ({"kind": "multi", "classes": ["a"], "thresholds": [float("nan")]}, "no list"),
    ({"kind": "single", "classes": ["a"], "mean": [1]}, "unknown field among mean"),
])  # fmt: skip
def test_what_is_wrong_is_named(raw, says):
    with pytest.raises(ValueError, match=says.replace("(", r"\(")):
        output_from_json(raw)


@given(
    st.recursive(
        st.none() | st.text() | st.floats() | st.integers(),
        lambda x: st.lists(x) | st.dictionaries(st.sampled_from(["kind", "classes", "thresholds"]) | st.text(), x),
    )
)
def test_any_other_json_is_refused_with_a_value_error(raw):
    with pytest.raises(ValueError, match=r"kind|labels"):
        output_from_json(raw)
