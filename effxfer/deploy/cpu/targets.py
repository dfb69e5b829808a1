"""The target CPUs of an int8 file: how they sum 8-bit products, and which recipes suit them.

An int8 layer multiplies codes of activations with codes of weights. x86 without VNNI uses `vpmaddubsw`: it
multiplies unsigned activations with signed weights and adds two products in 16 bits; larger sums are clipped (Intel
Architectures Software Developer's Manual, volume 2). VNNI (`vpdpbusd`) and ARM (`udot`, `sdot`, or widening products)
cannot saturate, nor can ONNX Runtime's kernels for unsigned weights and those for x86 without AVX2.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from effxfer.benchmark.machine import facts
from effxfer.deploy.cpu.saturation import Saturation
from effxfer.deploy.int8.recipes import RECIPES, Recipe
from effxfer.report import Table

Kinds = tuple[tuple[str, str], ...]
Loss = Literal["none", "pairs", "unknown"]

U8S8, U8U8, S8S8 = ("uint8", "int8"), ("uint8", "uint8"), ("int8", "int8")


@dataclass(frozen=True, kw_only=True)
class Target:
    """A class of CPUs.

    Attributes:
        name: Value of the setting `target`.
        cpus: The CPUs in words.
        loss: How their sums of 8-bit products saturate. `none`: they do not. `pairs`: sums of two products saturate at
            16 bits, and a file must not on calibration images. `unknown`: pairs in any order may saturate, so the
            weights must rule it out for any input.
        kinds: Types of activations and weights with fast kernels in convolutions and matrix products, the fastest
            first. Products alone, which are what dynamic recipes quantize, are fast on all CPUs: on ARM, ONNX Runtime
            multiplies unsigned activations with signed weights by `udot`, or by widening products (its `qgemm.h`).
        recipes: Static recipes to try if static ones are requested and none of them is of these kinds.
    """

    name: str
    cpus: str
    loss: Loss
    kinds: Kinds
    recipes: tuple[str, ...]

    def exclusion_reason(self, recipe: Recipe) -> str:
        """Return why a recipe is not tried for these CPUs; empty if it is."""
        if recipe.kind == "weights":
            return ""
        if recipe.kind == "dynamic" and self.loss != "none" and not recipe.reduce_range:
            return f"left out: ranges computed at run time may saturate on {self.name}"
        if recipe.kind == "dynamic" or (recipe.activation, recipe.weight) in self.kinds:
            return ""
        return f"left out: {recipe.activation} activations with {recipe.weight} weights are slow on {self.name}"

    def rank(self, recipe: Recipe) -> int:
        """Rank a recipe by the speed of its kernels, for CPUs that cannot be timed here; 0 is the fastest."""
        if recipe.kind == "weights":
            return len(self.kinds)
        if recipe.kind == "dynamic":
            return 0
        return self.kinds.index((recipe.activation, recipe.weight))

    def veto(self, saturation: Saturation) -> str:
        """Return why a candidate that saturates is refused for these CPUs; empty if it is accepted."""
        if self.loss == "pairs" and saturation.saturated:
            return f"refused for {self.name}: {saturation}"
        if self.loss == "unknown" and saturation.exposed_layers:
            layers = f"{len(saturation.exposed_layers)} of {len(saturation.layers)} layers"
            return f"refused for {self.name}: the weights of {layers} allow saturation"
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

# For anybody's module: nothing is refused, and this machine's clock decides.
ANY = Target(name="any", cpus="whatever they are", loss="none", kinds=(U8S8, U8U8, S8S8, ("int8", "uint8")), recipes=())


def host_target(machine: Mapping[str, Any] | None = None) -> Target:
    """Return the target that this machine belongs to, from its instruction sets.

    Args:
        machine: Facts of `effxfer.benchmark.machine.facts.facts`; None is this machine.

    Returns:
        The target; `portable` if the CPU fits no other.
    """
    machine = facts.facts() if machine is None else machine
    arch, flags = str(machine["arch"]).lower(), set(machine["flags"])
    if arch in ("aarch64", "arm64"):
        return TARGETS["arm64"]
    if arch in ("x86_64", "amd64") and facts.vnni(machine):
        return TARGETS["x86-vnni"]
    # AVX-512 without VNNI (Skylake) has the same 16-bit sums as AVX2.
    if arch in ("x86_64", "amd64") and flags & {"avx2", "avx512f"}:
        return TARGETS["x86-avx2"]
    return TARGETS["portable"]


def resolve_target(name: str) -> Target:
    """Return the target named `name`; `this` is the host."""
    return host_target() if name == "this" else TARGETS[name]


def latency_applies(target: Target, host: Target) -> bool:
    """Whether a latency measured on this machine is valid for the target."""
    # A portable file runs here as well, so that its latency here is one of its latencies.
    return target.name in (host.name, "portable", ANY.name)


def needs_exact_sums(target: Target, host: Target) -> bool:
    """Whether a file must run with exact sums on this machine to match its outputs on the target."""
    return target.loss == "none" and host.loss != "none" and not latency_applies(target, host)


def select_recipes(target: Target, names: Sequence[str]) -> tuple[str, ...]:
    """Return the recipes that suit the target, with the target's own if no static one of several does."""
    suitable = [name for name in names if not target.exclusion_reason(RECIPES[name])]
    asks, has = (any(RECIPES[name].kind == "static" for name in group) for group in (names, suitable))
    return tuple(suitable) + (target.recipes if not suitable or (asks and not has) else ())


def coverage(saturation: Saturation, host: Target, images: int, *, exact: bool = False) -> Table:
    """List the CPUs on which a file was checked, and those on which it is only expected to work.

    Args:
        saturation: Saturation of the file.
        host: This machine.
        images: Number of images that the file was run on.
        exact: Whether they were run with exact sums instead of this machine's.
    """
    rows = tuple(
        {"CPUs": t.name, "status": status, "why": why}
        for t in TARGETS.values() if t.name != "portable"
        for status, why in [_cpu_status(t, saturation, host, images, exact)]
    )  # fmt: skip
    old = {"CPUs": "x86 without AVX2", "status": "expected", "why": "its sums cannot saturate"}
    return Table(title="CPUs", rows=(*rows, old))


def _cpu_status(target: Target, saturation: Saturation, host: Target, images: int, exact: bool) -> tuple[str, str]:
    if target.loss == "pairs" and saturation.saturated:
        return "differs", str(saturation)
    if target.name == host.name and not exact:
        return "checked", f"run on {images} images"
    if target.loss == "pairs":
        return "expected", str(saturation)
    return "expected", f"its sums cannot saturate{f'; run with exact sums here on {images} images' if exact else ''}"
