"""The CPUs that an int8 file is made for: how they add up 8-bit products, and which recipes fit them.

An int8 layer multiplies codes of activations with codes of weights. x86 without VNNI does it by `vpmaddubsw`: unsigned
activations times signed weights, two products added in 16 bits, and what does not fit is cut off (Intel Architectures
Software Developer's Manual, volume 2). VNNI (`vpdpbusd`) and ARM (`udot`, `sdot`, or widening products) lose nothing,
and neither do ONNX Runtime's kernels for unsigned weights and those for x86 without AVX2.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from effxfer.benchmark.machine import facts
from effxfer.deploy.cpu.saturation import Saturation
from effxfer.deploy.settings import RECIPES, Recipe
from effxfer.report import Table

Kinds = tuple[tuple[str, str], ...]
Loss = Literal["none", "pairs", "unknown"]

U8S8, U8U8, S8S8 = ("uint8", "int8"), ("uint8", "uint8"), ("int8", "int8")


@dataclass(frozen=True, kw_only=True)
class Target:
    """A class of CPUs.

    Attributes:
        name: Value of the setting `target`.
        cpus: Which CPUs these are.
        loss: What their sums of 8-bit products lose: `none`; `pairs`: sums of two products saturate at 16 bits, so a
            file must not reach that on calibration images; `unknown`: they may saturate, in pairs of any order, so
            its weights must rule it out whatever comes in.
        kinds: Types of activations and weights that have kernels worth using, the fastest first.
        recipes: Tried where none of the recipes asked for is of these kinds.
    """

    name: str
    cpus: str
    loss: Loss
    kinds: Kinds
    recipes: tuple[str, ...]

    def left_out(self, recipe: Recipe) -> str:
        """Say why a recipe is not tried for these CPUs; empty if it is."""
        if recipe.kind == "weights":
            return ""
        if recipe.kind == "dynamic" and self.loss != "none" and not recipe.reduce_range:
            return f"left out: ranges that are found while it runs may saturate on {self.name}"
        if (recipe.activation, recipe.weight) in self.kinds:
            return ""
        return f"left out: {recipe.activation} activations with {recipe.weight} weights are slow on {self.name}"

    def rank(self, recipe: Recipe) -> int:
        """Order recipes by how fast their kernels are on these CPUs, where that cannot be timed; 0 is the fastest."""
        if recipe.kind == "weights":
            return len(self.kinds)
        return self.kinds.index((recipe.activation, recipe.weight))

    def veto(self, found: Saturation) -> str:
        """Say why a candidate is refused for what its sums lose on these CPUs; empty if it is not."""
        if self.loss == "pairs" and found.saturated:
            return f"refused for {self.name}: {found}"
        if self.loss == "unknown" and found.exposed:
            some = f"{len(found.exposed)} of {len(found.layers)} layers"
            return f"refused for {self.name}: the weights of {some} allow saturation"
        return ""


TARGETS: dict[str, Target] = {
    "arm64": Target(name="arm64", cpus="64-bit ARM", loss="none", kinds=(S8S8,), recipes=("s8s8", "s8s8-stem")),
    "portable": Target(
        name="portable", cpus="all of these, and x86 without AVX2", loss="unknown", kinds=(U8S8, U8U8, S8S8),
        recipes=("u8s8-front-7bit", "u8s8-stem-7bit"),
    ),
    "x86-avx2": Target(
        name="x86-avx2", cpus="x86 with AVX2 or AVX-512, without VNNI", loss="pairs", kinds=(U8S8, U8U8, S8S8),
        recipes=("u8s8-front-7bit", "u8s8-stem-7bit"),
    ),
    "x86-vnni": Target(
        name="x86-vnni", cpus="x86 with VNNI: Intel from Cascade Lake, AMD from Zen 4", loss="none", kinds=(U8S8,),
        recipes=("u8s8", "u8s8-stem"),
    ),
}  # fmt: skip

ANY = Target(name="any", cpus="whatever they are", loss="none", kinds=(U8S8, U8U8, S8S8, ("int8", "uint8")), recipes=())


def this(known: Mapping[str, Any] | None = None) -> Target:
    """Tell which target this machine is, from its instruction sets.

    Args:
        known: As `effxfer.benchmark.machine.facts.facts` gives it; None is this machine.

    Returns:
        `portable` where the CPU is none of the others.
    """
    known = facts.facts() if known is None else known
    arch, flags = str(known["arch"]).lower(), set(known["flags"])
    if arch in ("aarch64", "arm64"):
        return TARGETS["arm64"]
    if arch in ("x86_64", "amd64") and facts.vnni(known):
        return TARGETS["x86-vnni"]
    if arch in ("x86_64", "amd64") and flags & {"avx2", "avx512f"}:
        return TARGETS["x86-avx2"]
    return TARGETS["portable"]


def resolve(name: str) -> Target:
    """Give the target of that name; `this` is the machine at hand."""
    return this() if name == "this" else TARGETS[name]


def timed_here(target: Target, here: Target) -> bool:
    """Tell whether a latency measured on this machine says something about the target."""
    return target.name in (here.name, "portable", ANY.name)


def summed_exactly(target: Target, here: Target) -> bool:
    """Tell whether a file must be run with exact sums here to answer as it will on the target."""
    return target.loss == "none" and here.loss != "none" and not timed_here(target, here)


def recipes_for(target: Target, names: Sequence[str]) -> tuple[str, ...]:
    """Keep the recipes that fit the target; where none does, give the target's own."""
    return tuple(name for name in names if not target.left_out(RECIPES[name])) or target.recipes


def coverage(found: Saturation, here: Target, images: int, *, exact: bool = False) -> Table:
    """List on which CPUs a file was checked, and on which it is only expected to hold.

    Args:
        found: What `saturation` says of it.
        here: This machine.
        images: That the file was run on here.
        exact: They were run with exact sums, not with this machine's.
    """
    rows = tuple(
        {"CPUs": t.name, "status": status, "why": why}
        for t in TARGETS.values() if t.name != "portable"
        for status, why in [_standing(t, found, here, images, exact)]
    )  # fmt: skip
    old = {"CPUs": "x86 without AVX2", "status": "expected", "why": "its sums lose nothing"}
    return Table(title="CPUs", rows=(*rows, old))


def _standing(target: Target, found: Saturation, here: Target, images: int, exact: bool) -> tuple[str, str]:
    if target.loss == "pairs" and found.saturated:
        return "differs", str(found)
    if target.name == here.name and not exact:
        return "checked", f"run on {images} images"
    if target.loss == "pairs":
        return "expected", str(found)
    return "expected", f"its sums lose nothing{f'; run with such sums here on {images} images' if exact else ''}"
