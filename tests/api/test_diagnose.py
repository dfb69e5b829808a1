import pytest

import effxfer as ex
from effxfer.errors import ModelFileError, SettingsError


def test_a_model_has_findings_and_no_checks(exported):
    diagnosis = ex.doctor(exported.path, max_seconds=0.2, top=2)
    assert diagnosis.checks == ()
    assert diagnosis["findings"].value == len(diagnosis.findings)
    assert "<table>" in diagnosis._repr_html_()


def test_the_machine_has_checks_and_no_findings():
    diagnosis = ex.doctor()
    assert diagnosis.findings == ()
    assert "python" in {check.name for check in diagnosis.checks}
    assert diagnosis.usable == (diagnosis["failed"].value == 0)


def test_settings_of_a_model_need_a_model():
    with pytest.raises(SettingsError, match="`batch` needs a model"):
        ex.doctor(batch=2, threads=1)


def test_a_model_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ModelFileError, match=r"absent\.onnx"):
        ex.doctor(tmp_path / "absent.onnx")


def test_an_exported_model_is_checked_for_other_cpus(exported, folder):
    checked = ex.check_cpus(exported.path, folder, images=4, val_fraction=0.2)
    assert checked.report.tables[-1].title == "Outputs on 4 images"
    with pytest.raises(SettingsError, match="no emulated CPU 'avx'"):
        ex.check_cpus(exported.path, folder, emulate=["avx"])
