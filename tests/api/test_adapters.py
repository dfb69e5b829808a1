import pytest

import effxfer as ex
from effxfer.errors import ModelFileError
from tests import tiny


@pytest.fixture(scope="module")
def lora(dense, tmp_path_factory):
    out = tmp_path_factory.mktemp("adapter") / "lora"
    return ex.finetune(dense, out=out, strategy="lora", epochs=0, device="cpu", options=tiny.PLAIN)


def test_an_adapter_is_read_and_put_on_its_network(lora, dense, data, tmp_path):
    adapter = ex.load_adapter(lora)
    assert adapter.classes == tiny.CLASSES
    assert adapter.to_json()["strategy"] == "lora"
    assert f"<code>{adapter.digest}</code>" in adapter._repr_html_()
    merged = ex.apply_adapter(adapter, dense, out=tmp_path / "merged", data=data, device="cpu")
    assert merged.accuracy == lora.accuracy
    assert ex.apply_adapter(lora, dense, out=tmp_path / "merged", data=data, device="cpu").manifest == merged.manifest


def test_what_is_no_adapter_is_named(dense):
    with pytest.raises(ModelFileError, match=r"holds no adapter\.safetensors"):
        ex.load_adapter(dense.path)
