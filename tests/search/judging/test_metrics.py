import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, balanced_accuracy_score, f1_score, r2_score

from effxfer.errors import SettingsError
from effxfer.search.judging.metrics import measure, metric_of, row_score
from tests.search.tasks import corners, outputs, single, slopes


@given(pairs=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60))
@profile(max_examples=60, deadline=None)
@pytest.mark.filterwarnings("ignore::UserWarning:sklearn.*")
def test_metrics_of_single_labels_equal_scikit_learn(pairs):
    predicted, labels = (np.array(v) for v in zip(*pairs, strict=True))
    raw = np.eye(5, dtype=np.float32)[predicted]
    assert measure(single(5), raw, labels, "accuracy") == pytest.approx((predicted == labels).mean())
    recall, f1 = (measure(single(5), raw, labels, name) for name in ("balanced_accuracy", "macro_f1"))
    assert recall == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert f1 == pytest.approx(f1_score(labels, predicted, average="macro"))


def test_other_kinds_have_their_main_metric_as_a_share():
    rng = np.random.default_rng(0)
    (_, flags), (_, values) = corners(n=80), slopes(n=80)
    raw = rng.normal(size=(80, 3)).astype(np.float32)
    known = [flags[:, k] != 255 for k in range(3)]
    expected = np.mean([average_precision_score(flags[w, k], raw[w, k]) for k, w in enumerate(known)])
    assert measure(outputs(flags), raw, flags) == pytest.approx(expected)
    output = outputs(values)
    near = (values - np.array(output.mean)) / np.array(output.deviation) + 0.1 * raw[:, :2]
    rows = ~np.isnan(values).any(1)
    expected = r2_score(values[rows], output.values(near[rows].astype(np.float32)))
    assert measure(output, near[rows].astype(np.float32), values[rows]) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("kind", ["single", "multi", "value"])
def test_some_rows_score_as_they_do_by_themselves(kind):
    y = {"single": np.arange(90) % 3, "multi": corners(n=90)[1], "value": slopes(n=90)[1]}[kind]
    output = single(3) if kind == "single" else outputs(y)
    raw = np.random.default_rng(1).normal(size=(90, output.width)).astype(np.float32)
    rows = np.random.default_rng(2).integers(0, 90, 90)
    assert row_score(output, raw, y)(rows) == measure(output, raw[rows], y[rows])


def test_the_main_metric_is_the_default_and_metrics_of_another_kind_are_refused():
    flags, values = outputs(corners()[1]), outputs(slopes()[1])
    assert [metric_of(o, None) for o in (single(2), flags, values)] == ["accuracy", "mAP", "R2"]
    assert metric_of(single(2), "macro_f1") == "macro_f1"
    assert metric_of(flags, "mAP") == "mAP"
    for output, metric in ((flags, "accuracy"), (values, "macro_f1"), (values, "mAP"), (single(2), "R2")):
        with pytest.raises(SettingsError, match=f"metric = '{metric}' is not for labels of kind '{output.kind}'"):
            metric_of(output, metric)
