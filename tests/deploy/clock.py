"""A clock that does not depend on the machine: the time of a model is what its kernels would cost on a made-up CPU."""

from dataclasses import replace
from math import prod

from effxfer.benchmark.measure.op_costs import COMPUTE, CONVERT, bytes_moved, is_quantized_kernel, macs
from effxfer.benchmark.measure.profile import profile
from effxfer.benchmark.protocol.latency import Timing


def cost(kernel):
    """Milliseconds on a CPU that is slow off multiples of 8 channels, and fast with uint8 but not with int8."""
    work = macs(kernel)
    if kernel.op == "QLinearConv":
        work = 9 * prod(kernel.outputs[0]) * kernel.inputs[0][-1] * (0.25 if kernel.types[0] == "uint8" else 0.9)
    elif kernel.op in COMPUTE and not is_quantized_kernel(kernel):
        wide = kernel.outputs[0][1]
        work *= 4 if wide > 8 and wide % 8 else 1
    return 0.005 + work / 1e6 + bytes_moved(kernel) / 1e7 + (0.02 if kernel.op in CONVERT else 0)


def kernels(file, feed, *, threads=1, seconds=0):
    """Give what runs, with the made-up times."""
    return [replace(one, ms=cost(one)) for one in profile(file, feed, threads=threads, seconds=0)]


def use(monkeypatch, module):
    """Let a module time and profile by this clock; threads make no difference."""

    def runner(file, feed, threads=1):
        return lambda: sum(one.ms for one in kernels(file, feed))

    def compare(runners, *, baseline, threads=1, **_):
        times = {name: make() for name, make in runners.items()}
        return [timing(name, ms, ms / times[baseline], threads) for name, ms in times.items()]

    monkeypatch.setattr(module, "onnx_runner", runner)
    monkeypatch.setattr(module, "compare", compare)
    monkeypatch.setattr(module, "profile", kernels, raising=False)


def timing(name, ms, ratio, threads=1, spread=0.001, rounds=5):
    return Timing(
        name=name, mean=ms, p50=ms, p95=ms, p99=ms, ratio=ratio, ratio_low=ratio - spread, ratio_high=ratio + spread,
        n=100, rounds=rounds, threads=threads, first_ms=ms, load_ms=1.0,
    )  # fmt: skip
