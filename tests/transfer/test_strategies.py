"""A strategy from its name and its options."""

from dataclasses import replace

import pytest

from effxfer.errors import SettingsError
from effxfer.runtime.outputs.multi_label import MultiLabel
from effxfer.runtime.outputs.regression import Regression
from effxfer.runtime.outputs.single_label import SingleLabel
from effxfer.transfer import STRATEGIES
from effxfer.transfer.strategies import make_strategy, require_data, require_kind
from tests.transfer.tasks import task


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_name_makes_its_strategy(name):
    assert type(make_strategy(name, {})) is STRATEGIES[name]


def test_options_are_the_settings_of_the_strategy():
    assert make_strategy("lora", {"rank": 2}) == STRATEGIES["lora"](rank=2)
    assert make_strategy("lora", {"rank": 2}) != make_strategy("lora", {})


def test_an_unknown_name_lists_the_strategies_and_the_nearest_one():
    with pytest.raises(SettingsError, match="did you mean 'lora'") as caught:
        make_strategy("lorra", {})
    assert all(name in caught.value.hint for name in STRATEGIES)


def test_an_unknown_option_names_the_strategy():
    with pytest.raises(SettingsError, match="lora"):
        make_strategy("lora", {"rnk": 4})


@pytest.mark.parametrize(("output", "options", "says"), [
    (MultiLabel(classes=("a", "b")), {"balance": 1.0}, "options.balance has no effect on labels of kind 'multi'"),
    (Regression(classes=("a",)), {"multi_label": "asymmetric"}, "options.multi_label has no effect"),
    (Regression(classes=("a",)), {"label_smoothing": 0.1}, "options.label_smoothing has no effect"),
    (SingleLabel(classes=("a", "b")), {"multi_label": "asymmetric"}, "it is for kind multi|no effect"),
])  # fmt: skip
def test_an_option_without_effect_on_a_kind_of_label_is_refused(output, options, says):
    with pytest.raises(SettingsError, match=says):
        require_kind(make_strategy("full", options), replace(task(), output=output))


def test_options_with_an_effect_are_taken():
    require_kind(make_strategy("full", {"balance": 1.0, "label_smoothing": 0.1}), task())
    several = replace(task(), output=MultiLabel(classes=("a", "b")))
    require_kind(make_strategy("full", {"multi_label": "asymmetric", "label_smoothing": 0.1}), several)


@pytest.mark.parametrize(("name", "unit"), [("fixmatch", "texts"), ("setfit", "images"), ("delta", "texts")])
@pytest.mark.parametrize("labels", ["tags", "span"])
def test_the_strategies_that_are_named_take_both_the_examples_and_their_labels(name, unit, labels):
    with pytest.raises(SettingsError) as caught:
        require_data(make_strategy(name, {}), "mine", unit, labels)
    named = caught.value.hint.rpartition(": ")[2].split(", ")
    assert "full" in named
    for other in named:
        require_data(make_strategy(other, {}), "mine", unit, labels)
