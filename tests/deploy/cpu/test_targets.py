from typing import get_args

import pytest

from effxfer.deploy.cpu.saturation import Layer, Saturation
from effxfer.deploy.cpu.targets import (
    ANY,
    TARGETS,
    coverage,
    host_target,
    latency_applies,
    needs_exact_sums,
    resolve_target,
    select_recipes,
)
from effxfer.deploy.int8.recipes import AUTO, RECIPES
from effxfer.deploy.settings import ExportSettings, Targets
from effxfer.errors import SettingsError
from effxfer.settings import build

CLEAN = Saturation(layers=(Layer(name="a", op="QGemm"),), images=0)
RISKY = Saturation(layers=(Layer(name="a", op="QGemm", pairs=100, could=2, any_order=1),), images=4)
CUT = Saturation(layers=(Layer(name="a", op="QGemm", pairs=100, saturated=5, could=2, any_order=1),), images=4)


@pytest.mark.parametrize(
    ("arch", "flags", "name"),
    [
        ("x86_64", ["avx", "avx2", "fma"], "x86-avx2"),
        ("AMD64", ["avx2", "avx512f"], "x86-avx2"),
        ("x86_64", ["avx2", "avx512f", "avx512_vnni"], "x86-vnni"),
        ("x86_64", ["avx2", "avx_vnni"], "x86-vnni"),
        ("x86_64", ["avx"], "portable"),
        ("aarch64", ["asimd"], "arm64"),
        ("arm64", [], "arm64"),
        ("riscv64", [], "portable"),
    ],
)
def test_this_machine_is_told_from_its_flags(arch, flags, name):
    assert host_target({"arch": arch, "flags": flags}).name == name


def test_the_setting_names_every_target():
    assert set(get_args(Targets)) == {"this", *TARGETS}
    assert list(TARGETS) == sorted(TARGETS)
    assert all(name == target.name for name, target in TARGETS.items())
    assert ExportSettings().target == "this"
    assert resolve_target("this") == host_target()
    assert resolve_target("arm64").name == "arm64"
    with pytest.raises(SettingsError, match="x86-avx2"):
        build(ExportSettings, {"target": "x86-avx"}, "export")


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_own_recipes_exist_and_fit(name):
    target = TARGETS[name]
    assert target.recipes
    assert select_recipes(target, target.recipes) == target.recipes
    for names in (AUTO["convolutions"], tuple(RECIPES)):
        chosen = select_recipes(target, names)
        assert chosen
        made = [RECIPES[one] for one in chosen if RECIPES[one].kind == "static"]
        assert all((recipe.activation, recipe.weight) in target.kinds for recipe in made)


def test_recipes_without_kernels_are_left_out():
    vnni, arm = TARGETS["x86-vnni"], TARGETS["arm64"]
    assert select_recipes(vnni, ("s8s8", "u8s8", "u8u8")) == ("u8s8",)
    assert select_recipes(arm, AUTO["convolutions"]) == ("s8s8", "s8s8-stem")
    assert select_recipes(arm, AUTO["tables"]) == (*AUTO["tables"][:4], "s8s8", "s8s8-stem")
    assert select_recipes(arm, ("dynamic",)) == ("dynamic",)
    assert arm.rank(RECIPES["dynamic"]) == arm.rank(RECIPES["s8s8"]) == 0
    assert select_recipes(ANY, tuple(RECIPES)) == tuple(RECIPES)
    assert vnni.exclusion_reason(RECIPES["s8s8"]) == "left out: int8 activations with int8 weights are slow on x86-vnni"
    assert vnni.exclusion_reason(RECIPES["u8s8"]) == ""
    ranks = [TARGETS["x86-avx2"].rank(RECIPES[name]) for name in ("u8s8", "u8u8", "s8s8", "weights")]
    assert ranks == [0, 1, 2, 3]


def test_ranges_that_are_found_while_it_runs_need_7_bits_where_sums_saturate():
    avx2 = TARGETS["x86-avx2"]
    assert avx2.exclusion_reason(RECIPES["dynamic"]).endswith("may saturate on x86-avx2")
    assert avx2.exclusion_reason(RECIPES["dynamic-7bit"]) == ""
    assert TARGETS["x86-vnni"].exclusion_reason(RECIPES["dynamic"]) == ""


@pytest.mark.parametrize(
    ("name", "refused"),
    [("arm64", []), ("x86-vnni", []), ("x86-avx2", [CUT]), ("portable", [RISKY, CUT])],
)
def test_what_is_refused(name, refused):
    for found in (CLEAN, RISKY, CUT):
        assert bool(TARGETS[name].veto(found)) == (found in refused)
        assert not ANY.veto(found)


def test_a_refusal_says_why():
    assert TARGETS["x86-avx2"].veto(CUT) == (
        "refused for x86-avx2: 5 of 100 pair sums saturate (5 %) in 1 of 1 layers on 4 images"
    )
    assert TARGETS["portable"].veto(RISKY) == "refused for portable: the weights of 1 of 1 layers allow saturation"


def test_where_a_figure_of_this_machine_holds():
    avx2, vnni, arm = (TARGETS[name] for name in ("x86-avx2", "x86-vnni", "arm64"))
    assert latency_applies(avx2, avx2)
    assert latency_applies(TARGETS["portable"], arm)
    assert latency_applies(ANY, arm)
    assert not latency_applies(vnni, avx2)
    assert needs_exact_sums(vnni, avx2)
    assert needs_exact_sums(arm, avx2)
    assert not any(needs_exact_sums(a, b) for a, b in [(avx2, vnni), (avx2, avx2), (arm, vnni), (ANY, avx2)])


def test_where_a_file_was_checked():
    def standing(*given, **more):
        return {row["CPUs"]: row["status"] for row in coverage(*given, **more).rows}

    rest = {"arm64": "expected", "x86-vnni": "expected", "x86 without AVX2": "expected"}
    assert standing(CLEAN, TARGETS["x86-avx2"], 9) == {"x86-avx2": "checked", **rest}
    assert standing(CUT, TARGETS["x86-avx2"], 9, exact=True) == {"x86-avx2": "differs", **rest}
    assert standing(RISKY, TARGETS["x86-vnni"], 9) == {**rest, "x86-avx2": "expected", "x86-vnni": "checked"}
    why = {row["CPUs"]: row["why"] for row in coverage(RISKY, TARGETS["arm64"], 9).rows}
    assert why["arm64"] == "run on 9 images"
    assert why["x86-avx2"] == "0 of 100 pair sums saturate (0 %) on 4 images"
