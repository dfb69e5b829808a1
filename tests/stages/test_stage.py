"""How a stage's record finds its code."""

import pytest

from effxfer.errors import SettingsError
from effxfer.stages.settings.base import StageSettings
from effxfer.stages.stage import Stage, import_reference


def refuse(name, net, _settings):
    raise SettingsError(f"{name} cannot take {net}")


def test_a_stage_imports_the_function_that_it_names():
    stage = Stage(name="x", settings=StageSettings, load="effxfer.stages.stage:import_reference")
    assert stage.function() is import_reference


def test_the_precondition_is_called_with_the_stage_the_network_and_the_settings():
    stage = Stage(name="x", settings=StageSettings, load="", precondition=f"{__name__}:refuse")
    with pytest.raises(SettingsError, match="x cannot take a net"):
        stage.check("a net", StageSettings())


def test_a_stage_without_a_precondition_takes_any_network():
    Stage(name="x", settings=StageSettings, load="effxfer.no_such_module:f").check(None, StageSettings())


def test_a_function_that_does_not_exist_is_an_error():
    with pytest.raises(AttributeError, match="no_such_function"):
        import_reference("effxfer.stages.stage:no_such_function")
