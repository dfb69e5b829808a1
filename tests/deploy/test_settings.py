import pytest

from effxfer.deploy.int8.recipes import AUTO, DEFAULT, RECIPES
from effxfer.deploy.settings import ExportSettings
from effxfer.errors import SettingsError
from effxfer.settings import build


def test_defaults_name_known_recipes():
    assert ExportSettings().recipes == DEFAULT
    assert all(set(names) <= set(RECIPES) for names in AUTO.values())
    assert max(map(len, AUTO.values())) <= 5, "a demo has to wait for them"
    assert len(set(RECIPES.values())) == len(RECIPES)
    assert list(RECIPES) == sorted(RECIPES)


def test_all_means_all():
    assert build(ExportSettings, {"recipes": ["all"]}, "export").recipes == tuple(RECIPES)


def test_a_misspelt_recipe_gets_a_suggestion():
    with pytest.raises(SettingsError, match=r"no recipe 'u8s8-stern' \(did you mean 'u8s8-stem'"):
        build(ExportSettings, {"recipes": ["u8s8-stern"]}, "export")


@pytest.mark.parametrize(
    "table",
    [
        {"opset": 12},
        {"opset": 27},
        {"max_drop": -1},
        {"tolerance": 0},
        {"recipes": []},
        {"recipes": ["auto", "u8s8"]},
        {"calibration": 0},
        {"with_preprocessing": True, "dynamic_size": True},
    ],
)
def test_nonsense_is_refused(table):
    with pytest.raises(SettingsError):
        build(ExportSettings, table, "export")


def test_preprocessing_inside_needs_an_operator_set_that_smooths():
    with pytest.raises(SettingsError, match="with_preprocessing needs opset 18 or later"):
        build(ExportSettings, {"with_preprocessing": True, "opset": 17}, "export")


@pytest.mark.parametrize("name", ["ort_web", "tokenizers_web", "backbone_license", "data_license"])
def test_what_only_a_bundle_needs_is_refused_without_one(name):
    with pytest.raises(SettingsError, match=f"{name} has no effect without a bundle"):
        build(ExportSettings, {name: "x"}, "export")
    assert getattr(build(ExportSettings, {name: "x", "bundle": True}, "export"), name) == "x"


@pytest.mark.parametrize("other", [{"target": "arm64"}, {"hf_inputs": True}, {"with_preprocessing": True}])
def test_openvino_has_no_target_and_no_other_inputs(other):
    (name,) = other
    with pytest.raises(SettingsError, match=f"{name} is for ONNX Runtime alone"):
        build(ExportSettings, {"runtime": "openvino", **other}, "export")
    assert build(ExportSettings, {"runtime": "openvino"}, "export").runtime == "openvino"
