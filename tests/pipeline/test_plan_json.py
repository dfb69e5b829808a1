import json

import pytest

from effxfer.errors import SettingsError
from effxfer.model_source import bundled_folder
from effxfer.pipeline.plan import read_plan
from effxfer.pipeline.plan_json import plan_from_json, plan_to_json
from tests import plans

SHIPPED = sorted(bundled_folder("pipelines").rglob("*.toml"))


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_a_plan_comes_back_equal(file):
    plan = read_plan(file, data="digits", backbone="resnet20-cifar10")
    assert plan_from_json(json.loads(json.dumps(plan_to_json(plan)))) == plan


def test_a_plan_of_another_version_is_refused(folder, tmp_path):
    plain = plan_to_json(read_plan(plans.write(tmp_path / "mine.toml", folder)))
    plain["steps"][0]["settings"]["colour"] = "red"
    with pytest.raises(SettingsError, match="unknown setting 'colour'"):
        plan_from_json(plain)
