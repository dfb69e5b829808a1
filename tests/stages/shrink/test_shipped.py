from types import SimpleNamespace

import pytest

from effxfer.deploy.cpu.targets import TARGETS
from effxfer.deploy.int8.recipes import AUTO, RECIPES
from effxfer.stages.shrink import shipped
from effxfer.stages.shrink.shipped import fast_recipe


@pytest.mark.parametrize("cpu", sorted(TARGETS))
@pytest.mark.parametrize("operators", sorted(AUTO))
def test_the_recipe_suits_the_machine(cpu, operators, monkeypatch):
    target = TARGETS[cpu]
    monkeypatch.setattr(shipped, "host_target", lambda: target)
    recipe = fast_recipe(SimpleNamespace(suitable_recipes=lambda _names: AUTO[operators]))
    assert recipe in AUTO[operators]
    suits = [name for name in AUTO[operators] if not target.exclusion_reason(RECIPES[name])]
    assert recipe in (suits or AUTO[operators])
    assert target.loss == "none" or RECIPES[recipe].reduce_range or not suits
