import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from effxfer.errors import SettingsError
from effxfer.search.space import SearchSettings, baseline, read, starts, suggest, tap_choices
from effxfer.settings import build


def test_taps_default_to_the_output_alone_then_pairs_then_all_then_early_exits():
    whole = (("out",), ("a", "out"), ("b", "out"), ("a", "b", "out"))
    assert tap_choices(SearchSettings(early_exits=False), ["a", "b", "out"]) == whole
    assert tap_choices(SearchSettings(), ["a", "b", "out"]) == (*whole, ("a",), ("b",))
    assert tap_choices(SearchSettings(), ["out"]) == (("out",),)
    assert tap_choices(SearchSettings(), ["a", "b"])[0] == ("b",)


def test_named_taps_are_taken_as_they_are_and_checked():
    wanted = SearchSettings(taps=(("b",), ("out", "b"), ("b",)))
    assert tap_choices(wanted, ["a", "b", "out"]) == (("b",), ("out", "b"))
    with pytest.raises(SettingsError, match=r"layer2.*did you mean 'layer3'"):
        tap_choices(SearchSettings(taps=(("layer2",),)), ["layer3", "out"])
    with pytest.raises(SettingsError, match="twice"):
        tap_choices(SearchSettings(taps=(("out", "out"),)), ["out"])


def test_settings_read_back_from_their_plain_form():
    wanted = SearchSettings(trials=7, seconds=2.5, taps=(("a", "out"),), kinds=("mlp",), max_parameters=100)
    assert build(SearchSettings, wanted.plain(), "search") == wanted
    with pytest.raises(SettingsError, match=r"trails.*did you mean 'trials'"):
        build(SearchSettings, {"trails": 3}, "search")


@given(seed=st.integers(0, 10_000), kinds=st.sets(st.sampled_from(["linear", "cosine", "mlp"]), min_size=1))
@profile(max_examples=40, deadline=None)
def test_every_draw_is_a_head_and_reads_back(seed, kinds):
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    settings = SearchSettings(kinds=tuple(sorted(kinds)), max_rank=1 + seed % 40, max_queries=1 + seed % 7)
    choices = tap_choices(settings, ["a", "out"])
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask()
    candidate = suggest(trial, settings, choices)
    assert candidate.spec.kind in kinds | {"linear"}
    assert candidate.taps in choices
    assert read(trial.params, settings, choices) == candidate


def test_the_baseline_is_the_plain_linear_head_on_the_first_taps():
    choices = (("b", "out"), ("out",))
    candidate = read(baseline(choices), SearchSettings(kinds=("mlp",)), choices)
    assert candidate.spec.kind == "linear"
    assert candidate.spec.dropout == 0
    assert candidate.taps == ("b", "out")


@pytest.mark.parametrize("most", [{}, {"max_rank": 1}, {"pools": ("bilinear",), "kinds": ("mlp",)}])
def test_what_is_tried_first_is_within_the_space(most):
    settings = SearchSettings(**most)
    choices = tap_choices(settings, ["a", "b", "out"])
    found = [read(params, settings, choices) for params in starts(settings, choices)]
    assert found[0] == read(baseline(choices), settings, choices)
    assert {c.spec.pool for c in found} == {"mean", *settings.pools}
    assert {c.taps for c in found} == {("out",), ("a",), ("b",)}
    assert len({str(c) for c in found}) == len(found)


@pytest.mark.parametrize(
    ("storage", "word"),
    [("mysql://host/db", "should be postgresql"), ("journal:", "should be postgresql"),
     ("postgresql://me:hunter2@host/db", "PGPASSWORD"), ("postgresql://me@host/db?password=hunter2", "PGPASSWORD")],
)  # fmt: skip
def test_a_storage_that_is_none_or_shows_a_password_is_refused_without_showing_it(storage, word):
    with pytest.raises(SettingsError, match=word) as told:
        build(SearchSettings, {"storage": storage}, "search")
    assert "hunter2" not in str(told.value)


def test_trials_are_40_or_as_many_as_fit():
    assert SearchSettings().max_trials == 40
    assert SearchSettings(seconds=60.0).max_trials == 100_000
    assert SearchSettings(seconds=60.0, trials=7).max_trials == 7
