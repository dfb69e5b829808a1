import numpy as np
import pytest

import effxfer as ex
from effxfer.errors import SettingsError
from tests.tiny_vectors import vectors, write_npz

BODY = "effxfer.net.mlp:mlp"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("domains")
    features, labels = vectors(240, seed=5)
    shifted = features + 2.0 * features.std(0) * np.array([1, -1, 1, -1, 0.5, 0])
    source = write_npz(folder / "source.npz", 240)
    return source, write_npz(
        folder / "target.npz", 240, features=shifted, labels=np.array(["ant", "bee", "cat"])[labels]
    )


def adapted(files, out, strategy="self_training", **settings):
    source, target = files
    table = {"data": {"target": str(target)}, "backbone": {"args": {"hidden": [16]}}, **settings}
    table["fit"] = {"lr": 0.02, **settings.get("fit", {})}
    return ex.finetune(BODY, data=str(source), epochs=4, batch=32, strategy=strategy, out=out, settings=table)


def test_the_report_compares_with_the_source_alone_and_with_the_oracle(files, tmp_path):
    report = adapted(files, tmp_path / "out", options={"validator": "information"}).report
    names = [row.name for row in report.rows]
    for name in (
        "accuracy/target",
        "accuracy/target source only",
        "A-distance before",
        "A-distance after",
        "oracle gap",
    ):
        assert name in names
    (table,) = [table for table in report.tables if table.title == "Chosen epochs"]
    assert [row["training"] for row in table.rows] == ["strategy", "source only"]
    for row in table.rows:
        assert row["oracle target %"] - row["target %"] == pytest.approx(row["gap"], abs=1e-3)
        assert row["gap"] >= 0
        assert row["validator"] == "information"
    assert table.rows[0]["target %"] == pytest.approx(report["accuracy/target"].value, abs=1e-3)
    assert table.rows[1]["target %"] == pytest.approx(report["accuracy/target source only"].value, abs=1e-3)
    assert any("for figures only" in note for note in report.notes)


def test_source_only_is_what_full_reaches(files, tmp_path):
    report = adapted(files, tmp_path / "out").report
    alone = adapted(files, tmp_path / "full", strategy="full").report
    assert report["accuracy/target source only"].value == alone["accuracy/target"].value
    assert report["accuracy/val source only"].value == alone["accuracy/val"].value
    assert not [row for row in alone.rows if "source only" in row.name]


def test_a_method_that_harms_is_named(files, tmp_path):
    options = {"weight": 300.0, "validator": "information"}
    report = adapted(files, tmp_path / "out", strategy="dann", options=options).report
    assert any("worse than source only by the validator 'information'" in note for note in report.notes)


@pytest.mark.parametrize(
    ("strategy", "options", "message"),
    [("mcc", {}, "strategy 'mcc' looks at vectors of another domain"),
     ("full", {"validator": "snd"}, "validator 'snd' looks at vectors of another domain"),
     ("fixmatch", {}, "strategy 'fixmatch' needs images, source holds vectors")],
)  # fmt: skip
def test_what_it_does_not_take_is_refused_before_anything_is_loaded(
    files, tmp_path, monkeypatch, strategy, options, message
):
    monkeypatch.setattr("effxfer.stages.runner.run.open_source", lambda _source: pytest.fail("it was opened"))
    with pytest.raises(SettingsError, match=message):
        ex.finetune(BODY, data=str(files[0]), strategy=strategy, out=tmp_path / "out", settings={"options": options})


def test_values_have_no_classes_to_align(files, tmp_path, monkeypatch):
    file = write_npz(tmp_path / "v.npz", labels=vectors(90)[0][:, 0])
    with pytest.raises(SettingsError, match="learns labels of kind single, the data hold kind 'value'"):
        ex.finetune(BODY, data=str(file), strategy="cdan", out=tmp_path / "out", settings={"data": {"labels": "value"}})


@pytest.mark.parametrize(
    ("names", "hint"), [(("Ant", "Bee", "Cat"), "differ in case"), (("x", "y", "z"), "a target of the same classes")]
)
def test_a_target_of_other_classes_is_named(files, tmp_path, names, hint):
    source, _ = files
    features, labels = vectors(60, seed=6)
    other = write_npz(tmp_path / "other.npz", 60, features=features, labels=np.array(names)[labels])
    with pytest.raises(SettingsError, match=rf"its target other has others: {names[0]}, ") as caught:
        adapted((source, other), tmp_path / "out", strategy="mcc")
    assert hint in caught.value.hint
