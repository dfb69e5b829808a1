"""A strategy from its name and its options."""

import pytest

from effxfer.errors import SettingsError
from effxfer.transfer import STRATEGIES
from effxfer.transfer.strategies import make_strategy


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
