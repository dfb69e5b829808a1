import numpy as np

from effxfer.data.checks.audit import audit
from effxfer.data.load import scan
from effxfer.data.settings import DataSettings
from effxfer.data.vectors.vector_audit import audit_vectors
from tests.tiny_vectors import vectors, write_npz

SPLITS = np.array(["train"] * 60 + ["val"] * 15 + ["test"] * 15)


def codes(file) -> list[str]:
    return [finding.code for finding in audit_vectors(scan(DataSettings(source=str(file))))]


def test_sound_vectors_have_no_findings(tmp_path):
    assert codes(write_npz(tmp_path / "a.npz")) == []


def test_constant_columns_repeats_and_other_units_are_found(tmp_path):
    features = vectors(90)[0]
    features[:, 2] = 7
    features[60:75, 4] *= 1000
    features[1] = features[4]
    file = write_npz(tmp_path / "a.npz", features=features, splits=SPLITS)
    found = audit(DataSettings(source=str(file)))
    texts = {finding.code: finding.text for finding in found.findings if finding.code.startswith("W36")}
    assert texts == {
        "W360": "1 of 6 columns are constant in train: 2",
        "W361": "1 vectors occur several times in train",
        "W362": "1 columns have another mean in val, by over 10 deviations of train: 4",
    }
    assert found.report["vectors"].value == 90
    assert not found.errors


def test_all_errors_are_listed(tmp_path):
    features = vectors(90)[0]
    features[3, 1] = np.nan
    features[80] = features[0]
    file = write_npz(tmp_path / "a.npz", features=features, splits=SPLITS)
    assert [finding.code for finding in audit(DataSettings(source=str(file))).errors] == ["E363", "E320"]
