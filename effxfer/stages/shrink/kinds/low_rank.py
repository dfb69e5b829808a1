"""Candidate: large layers as the product of two of a low rank (Zhang et al., 2015, see `prune.low_rank`)."""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from fnmatch import fnmatchcase
from itertools import islice

from effxfer.benchmark.layer_table.table import LayerCosts, measure_costs
from effxfer.net.compression.low_rank_layer import largest_rank
from effxfer.net.edits import apply_edit
from effxfer.net.layers import Layer, Site, trace
from effxfer.net.net import BODY, Net
from effxfer.prune.low_rank.factors import Spectrum, output_spectra, set_factors_
from effxfer.prune.low_rank.ranks import RankOption, choose_ranks, option
from effxfer.prune.network import example_of
from effxfer.runtime.threads import usable_cores
from effxfer.stages.prune.channels import SOLVE_BATCHES
from effxfer.stages.prune.control_networks import DENSITIES
from effxfer.stages.shrink.kinds.kind import Refusal, Sized, Workbench, too_slow
from effxfer.stages.shrink.kinds.size_search import fit_size

POWER = 1.0  # the cost of a layer is proportional to its rank


def low_rank_layers(net: Net, bench: Workbench) -> Sized | Refusal:
    """Split layers where two are cheaper, with ranks that lose least, until the network meets the latency."""
    layers = [layer for layer in trace(net, example_of(net)) if is_splittable(net, layer, bench)]
    if not layers:
        return Refusal(reason="no layer is cheaper as two")
    images = islice((inputs for inputs, _ in bench.batches(net)), SOLVE_BATCHES)
    spectra = output_spectra(net, [layer.name for layer in layers], images)
    options = rank_options(layers, spectra, bench)
    cost = sum(each[0].cost for each in options.values())
    timings = {1.0: bench.present}

    def latency(share: float) -> float:
        timings[share] = bench.time(split_network(net, options, share * cost, spectra)[0])
        return timings[share].ratio

    share = fit_size(DENSITIES, latency, bench.limit, start=(1.0, bench.present.ratio), power=POWER)
    if share is None:
        return too_slow("even at the lowest ranks", timings[DENSITIES[0]])
    smaller, count = split_network(net, options, share * cost, spectra)
    bench.recover_(smaller, net)
    return Sized(net=smaller, timing=timings[share], detail=f"{count} of {len(layers)} layers of low rank")


def is_splittable(net: Net, layer: Layer, bench: Workbench) -> bool:
    """Whether a layer of the body may be split into two of at least `round_to` channels."""
    excluded = any(fnmatchcase(layer.name, pattern) for pattern in bench.settings.exclude)
    masked = f"{layer.name}.weight" in net.masks()
    rank = largest_rank(net.get_submodule(layer.name))
    return layer.name.startswith(BODY) and not excluded and not masked and rank >= bench.settings.round_to


def rank_options(
    layers: Sequence[Layer], spectra: Mapping[str, Spectrum], bench: Workbench
) -> dict[str, list[RankOption]]:  # fmt: skip
    """Price each layer whole, and at each rank at which both parts together cost less."""
    seconds = [second_layer(layer, layer.outputs) for layer in layers]
    costs = measure_costs([*layers, *seconds], threads=bench.settings.threads or usable_cores())
    return {layer.name: [*options_of(layer, spectra[layer.name], costs, bench.settings.round_to)] for layer in layers}


def options_of(layer: Layer, spectrum: Spectrum, costs: LayerCosts, step: int) -> Iterator[RankOption]:
    """Yield the options of a layer, the whole layer first."""
    unsplit = costs.ms(layer.site, layer.inputs, layer.outputs)
    yield RankOption(rank=None, cost=unsplit, loss=0.0)
    kernel = layer.site.kernel[0] * layer.site.kernel[1]
    largest = (layer.outputs * layer.inputs * kernel - 1) // (layer.outputs + layer.inputs * kernel)
    for rank in range(step, largest + 1, step):
        second = second_layer(layer, rank)
        cost = costs.ms(layer.site, layer.inputs, rank) + costs.ms(second.site, rank, layer.outputs)
        if cost < unsplit:
            yield option(rank, cost, spectrum.loss(rank))


def second_layer(layer: Layer, rank: int) -> Layer:
    """Return the second of the two layers: 1 x 1 at the positions of the outputs."""
    size = layer.site.out
    site = layer.site if layer.site.kind == "linear" else Site(kind="conv", size=size, out=size)
    return Layer(name=f"{layer.name}.second", site=site, inputs=rank, outputs=layer.outputs)


def split_network(
    net: Net, options: Mapping[str, Sequence[RankOption]], cost: float, spectra: Mapping[str, Spectrum]
) -> tuple[Net, int]:  # fmt: skip
    """Copy a network with layers split for a cost of all splittable layers; also return how many were split."""
    smaller, ranks = deepcopy(net), choose_ranks(options, cost)
    apply_edit(smaller, "factorize", ranks=ranks)
    set_factors_(smaller, net, spectra)
    return smaller, len(ranks)
