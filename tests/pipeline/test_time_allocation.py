"""A time is shared out among the steps of a pipeline, and none gets more than it needs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effxfer.errors import SettingsError
from effxfer.pipeline.plan import read_plan
from effxfer.pipeline.presets import find_preset
from effxfer.pipeline.time_allocation import RESERVED_SHARE, STAGE_SHARES, StageShare, allocate_seconds, share_seconds
from effxfer.stages import STAGES

portions = st.dictionaries(
    st.text("abc", min_size=1),
    st.builds(
        StageShare, weight=st.floats(0.1, 10), max_seconds=st.one_of(st.just(float("inf")), st.floats(1, 1000)),
        split=st.just({}), caps=st.just({}),
    ),
    min_size=1,
)  # fmt: skip


@given(portions, st.floats(1, 1e5))
def test_all_of_it_is_given_unless_nobody_needs_it(told, seconds):
    shares = share_seconds(told, seconds)
    assert shares.keys() == told.keys()
    assert all(0 < shares[name] <= one.max_seconds for name, one in told.items())
    needed = sum(one.max_seconds for one in told.values())
    assert sum(shares.values()) == pytest.approx(min(seconds, needed))


@given(portions, st.floats(1, 1e5))
def test_who_needs_more_gets_by_weight(told, seconds):
    shares = share_seconds(told, seconds)
    rates = [shares[name] / one.weight for name, one in told.items() if shares[name] < one.max_seconds * (1 - 1e-9)]
    assert not rates or max(rates) == pytest.approx(min(rates))


@pytest.mark.parametrize("data", ["digits", "requests"])
@pytest.mark.parametrize("name", ["fast", "balanced", "small", "best"])
def test_presets_can_be_held_to_a_time(name, data):
    plan = read_plan(find_preset(name, data), data=data)
    held, shares = allocate_seconds(plan, 1000)
    assert [step.name for step in held.steps] == [step.name for step in plan.steps]
    assert sum(shares.values()) == pytest.approx(1000 * (1 - RESERVED_SHARE))
    for step in held.steps:
        plain = step.settings.plain()
        if "seconds" in plain:
            assert plain["seconds"] == pytest.approx(shares[step.name], abs=0.01)
        else:
            named = [plain[one] for one in STAGE_SHARES[step.stage].split]
            assert 0 < sum(named) <= shares[step.name] or step.stage == "prune vocabulary"


def test_the_stages_that_it_knows_have_the_settings_it_sets():
    for name, one in STAGE_SHARES.items():
        assert one.split.keys() <= STAGES[name].settings.model_fields.keys()
        assert one.caps.keys() <= one.split.keys()


def test_what_cannot_be_held_to_a_time_is_named():
    with pytest.raises(SettingsError, match=r"'ticket' \(prune lottery\)"):
        allocate_seconds(read_plan("photos", data="digits"), 100)


def test_a_preset_that_does_not_exist():
    with pytest.raises(SettingsError, match="did you mean 'small'"):
        find_preset("smal")
