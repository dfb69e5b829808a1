"""The settings reference holds every field of every model, with its meaning."""

from typing import Annotated, Literal

import pytest
from pydantic import Field

pytest.importorskip("griffe")
from docs.generate.settings import meanings, nested, page, type_text
from effxfer.data.settings import DataSettings
from effxfer.stages import STAGES
from effxfer.train.settings import FitSettings
from effxfer.transfer import STRATEGIES

MODELS = [DataSettings, *(stage.settings for stage in STAGES.values()), *STRATEGIES.values()]


@pytest.fixture(scope="module")
def lines():
    return set(page().splitlines())


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_field_is_on_the_page_with_what_it_means(model, lines):
    for name in model.model_fields:
        meaning = meanings(model)[name]
        assert any(line.startswith(f"- `{name}` (") and line.endswith(f": {meaning}") for line in lines), name


def test_models_that_hold_each_other_are_walked_once():
    inner = nested([STAGES["finetune"].settings, DataSettings])
    assert inner["FitSettings"] is FitSettings
    assert inner["DataSettings"] is DataSettings
    assert list(inner) == sorted(inner)


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (int, "int"),
        (float | None, "float | None"),
        (Literal["a", "b"], "'a' | 'b'"),
        (tuple[Annotated[int, Field(ge=1)], ...], "tuple[int, ...]"),
        (dict[str, list[float]], "dict[str, list[float]]"),
    ],
)
def test_a_type_reads_as_python(annotation, text):
    assert type_text(annotation) == text
