import pytest

from effxfer.errors import SettingsError
from tests import tiny


def test_images_have_no_such_inputs(dense, data, tmp_path):
    with pytest.raises(SettingsError, match="hf_inputs needs texts, this network takes images"):
        tiny.stage("export", dense, tmp_path / "out", data, hf_inputs=True)
