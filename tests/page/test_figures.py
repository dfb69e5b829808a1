import math

import plotly.graph_objects as go
import pytest

from effxfer.page.figures import curve_figures, pareto
from effxfer.report import Curve, Table


def summary(*rows):
    names = ("model", "accuracy %", "p50 ms", "size MB")
    return Table(title="t", rows=tuple(dict(zip(names, row, strict=True)) for row in rows))


def markers(figure):
    return [trace for trace in figure["data"] if "markers" in trace["mode"]]


def test_pareto_joins_the_front_and_sizes_markers_by_file():
    figure = pareto(summary(("dense", 90.0, 40.0, 16.0), ("small", 88.0, 10.0, 4.0), ("bad", 80.0, 20.0, 4.0)))
    assert figure is not None
    assert figure["data"][0]["x"] == [10.0, 40.0]
    sizes = {m["name"]: m["marker"]["size"] for m in markers(figure)}
    assert sizes["dense"] == 2 * sizes["small"]
    assert {m["name"] for m in markers(figure) if m["role"] == "front-marker"} == {"dense", "small"}


def test_rows_without_accuracy_or_latency_are_left_out():
    figure = pareto(summary(("a", 90.0, 40.0, None), ("b", None, 1.0, 1.0), ("c", 80.0, math.nan, 1.0)))
    assert [m["name"] for m in markers(figure)] == ["a"]


@pytest.mark.parametrize(
    "table", [Table(title="t", rows=()), Table(title="t", rows=({"model": "a"},)), summary(("a", None, None, 1.0))]
)
def test_without_figures_there_is_no_plot(table):
    assert pareto(table) is None


def test_a_wide_span_of_latencies_gets_a_logarithmic_axis():
    narrow = pareto(summary(("a", 90.0, 10.0, 1.0), ("b", 80.0, 5.0, 1.0)))
    wide = pareto(summary(("a", 90.0, 100.0, 1.0), ("b", 80.0, 5.0, 1.0)))
    assert "type" not in narrow["layout"]["xaxis"]
    assert wide["layout"]["xaxis"]["type"] == "log"


def test_names_are_escaped_for_plotly():
    figure = pareto(summary(("<b>%{x}</b>", 90.0, 10.0, 1.0)))
    (marker,) = markers(figure)
    assert marker["text"] == ["&lt;b&gt;%{x}&lt;/b&gt;"]
    assert marker["hovertemplate"] == "%{customdata[0]}<extra></extra>"
    assert "<b>%{x}" not in marker["customdata"][0][0]


def curve(title="Loss", name="train", x="epoch", y="loss", points=((1.0, 2.0), (2.0, 1.0)), **rest):
    return Curve(title=title, name=name, x=x, y=y, points=points, **rest)


def test_curves_of_one_title_and_axes_share_a_plot():
    figures = curve_figures([curve(), curve(title="Accuracy", y="%"), curve(name="val"), curve(y="other")])
    assert [(title, len(figure["data"])) for title, figure in figures] == [("Loss", 2), ("Accuracy", 1), ("Loss", 1)]


def test_a_curve_without_finite_points_is_left_out():
    assert curve_figures([curve(points=()), curve(points=((1.0, math.nan),))]) == []
    ((_, figure),) = curve_figures([curve(points=((1.0, math.nan), (2.0, 1.0)))])
    assert (figure["data"][0]["x"], figure["data"][0]["y"]) == ([2.0], [1.0])


def test_weights_remaining_fall_from_left_to_right_on_a_logarithmic_axis():
    points = tuple((100 * 0.8**k, 90.0 - k) for k in range(12))
    ((_, figure),) = curve_figures([curve(x="weights remaining %", points=points)])
    axis = figure["layout"]["xaxis"]
    assert (axis["autorange"], axis["type"]) == ("reversed", "log")
    assert axis["ticktext"][0] == "100"
    assert len(axis["tickvals"]) <= 7
    ((_, short),) = curve_figures([curve(x="weights remaining %", points=((100.0, 1.0), (0.0, 0.0)))])
    assert "type" not in short["layout"]["xaxis"]


def test_points_with_names_show_them():
    points = ((1.0, 2.0), (float("nan"), 1.0), (3.0, 4.0))
    curve = Curve(title="t", name="n", x="x", y="y", points=points, line=False, labels=("a", "b", "c<d"))
    ((_, figure),) = curve_figures([curve])
    (trace,) = figure["data"]
    assert trace["text"] == ["a", "c&lt;d"]
    assert trace["mode"] == "markers+text"


def test_scatter_has_no_line():
    ((_, figure),) = curve_figures([curve(line=False)])
    assert figure["data"][0]["mode"] == "markers"


def test_plotly_knows_every_property_of_every_figure():
    """`role` and `tall` are for the page's own script, which takes them out."""
    line = Curve(title="a", name="n", x="remaining weights, %", y="y", points=((100.0, 1.0), (10.0, 0.5)))
    dots = Curve(title="b", name="n", x="trial", y="y", points=((1, 1.0), (20, 0.5)), line=False, labels=("u", "v"))
    figures = [figure for _, figure in curve_figures([line, dots])]
    figures += [pareto(summary(("a", 90.0, 100.0, 1.0), ("b", 80.0, 5.0, 1.0)))]
    assert len(figures) == 3
    for figure in figures:
        traces = [{name: value for name, value in trace.items() if name != "role"} for trace in figure["data"]]
        assert len(go.Figure(data=traces, layout=figure["layout"]).data) == len(figure["data"])
    with pytest.raises(ValueError, match="Invalid property"):
        go.Figure(data=[{"type": "scatter", "role": "front"}])
