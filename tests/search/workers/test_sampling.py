from effxfer.search.space import SearchSettings
from effxfer.search.workers.sampling import MAX_REFUSALS, derive_seed, make_sampler


def test_seeds_depend_on_every_part():
    assert len({derive_seed(a, b) for a in range(20) for b in range(20)}) == 400


def test_draws_are_random_at_first_and_where_tpe_repeats_itself():
    draws = ((3, 0), (4, 0), (4, MAX_REFUSALS // 2), (4, MAX_REFUSALS // 2 + 1))
    kinds = [type(make_sampler(SearchSettings(startup=3), 0, slot, attempt)).__name__ for slot, attempt in draws]
    assert kinds == ["RandomSampler", "TPESampler", "TPESampler", "RandomSampler"]
