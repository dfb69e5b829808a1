"""effxfer beside other tools: the same network, images, splits and epochs, all files judged in one run.

`python -m benchmarks.peers --data FOLDER --backbone timm:resnet18@weights.safetensors` fine-tunes with a plain loop of
timm's settings, prunes that network by torch-pruning, quantizes by ONNX Runtime, and by NNCF and fastai where they are
installed. effxfer then has as many epochs, and as many seconds to shrink as the slowest of the others took to prune.
"""

import argparse
import importlib.metadata
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.peers import fast_ai, ours, plain_loop, quantized
from benchmarks.peers.case import Case, make_case
from benchmarks.peers.judge import Entry, judge
from benchmarks.peers.pruned import prune_to_latency
from effxfer.cli import show
from effxfer.report import Report, Table
from effxfer.runtime.model import Model

BASELINE = "plain loop"
PACKAGES = ("torch", "timm", "torch-pruning", "onnxruntime", "nncf", "fastai", "effxfer")


def main() -> None:
    """Run everybody on the task of the command line, and print one table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--data", required=True, help="a source, or settings of data as JSON")
    parser.add_argument("--backbone", required=True, help="a source, or settings of a backbone as JSON")
    parser.add_argument("--others", default="", help="other backbones for effxfer to try: a,b, or a list as JSON")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--recovery", type=int, default=8, help="epochs after a pruning")
    parser.add_argument("--latency-ratio", type=float, default=0.4)
    parser.add_argument("--seed", type=int, default=0)
    told = parser.parse_args()
    torch.set_num_threads(1)
    quantized.quiet()
    with tempfile.TemporaryDirectory() as scratch, show.progress():
        case = make_case(
            told.data, told.backbone, told.size, epochs=told.epochs, recovery=told.recovery,
            latency_ratio=told.latency_ratio, seed=told.seed, folder=Path(scratch),
        )  # fmt: skip
        missing, entries = list[str](), dict[str, Entry]()
        entries.update(peers(case, missing))
        slowest = max(entry.seconds for name, entry in entries.items() if name.startswith("torch-pruning"))
        entries.update(effxfer(case, slowest - entries[BASELINE].seconds, backbones(told.others)))
        rows = judge(entries, case, BASELINE)
    print(Report(tables=(Table(title="Peers", rows=tuple(rows)), Table(title="Versions", rows=tuple(versions())))))
    for text in missing:
        print(f"skipped: {text}")


def peers(case: Case, missing: list[str]) -> Iterator[tuple[str, Entry]]:
    """Give the files of other tools by name, and add to `missing` what is not installed."""
    dense, seconds = timed(lambda: plain_loop.train(case.fresh(), case, case.epochs))
    yield from with_int8(case, BASELINE, dense, seconds, missing)
    for name, everywhere in (("uniform", False), ("global", True)):

        def prune(everywhere: bool = everywhere) -> Any:
            return plain_loop.train(prune_to_latency(dense, case, everywhere=everywhere), case, case.recovery)

        net, more = timed(prune)
        yield from with_int8(case, f"torch-pruning {name}", net, seconds + more, missing)
    try:
        net, seconds = timed(lambda: fast_ai.train(case, case.epochs))
    except ImportError as error:
        missing.append(f"fastai ({error})")
    else:
        yield "fastai", Entry(file=case.export(net, "fastai"), input=case.input, seconds=seconds)


def with_int8(case: Case, name: str, net: Any, seconds: float, missing: list[str]) -> Iterator[tuple[str, Entry]]:
    """Give a network's float32 file, and its int8 files by all quantizers that are installed."""
    file = case.export(net, name.replace(" ", "-"))
    yield name, Entry(file=file, input=case.input, seconds=seconds)
    for quantizer, quantize in (("static", quantized.static), ("dynamic", quantized.dynamic), ("NNCF", quantized.nncf)):
        try:
            result = quantize(file, case)
        except ImportError as error:
            missing.append(f"{name}, {quantizer} ({error})")
        else:
            yield f"{name}, int8 {quantizer}", Entry(file=result, input=case.input, seconds=seconds)


def backbones(told: str) -> list[Any]:
    """Return the other backbones; local weights need settings, such as their mean, and so a table of JSON."""
    return list(json.loads(told)) if told.startswith("[") else [name for name in told.split(",") if name]


def effxfer(case: Case, budget: float, others: list[Any]) -> Iterator[tuple[str, Entry]]:
    """Give the files of effxfer: the dense network's, and those of the winner of `shrink` within the budget."""
    dense, seconds = timed(lambda: ours.tune(case))
    small, more = timed(lambda: ours.shrink(dense, case, budget, others))
    for name, net, took in (("dense", dense, seconds), ("shrink", small, seconds + more)):
        for precision, file in ours.files(net, case, name).items():
            yield f"effxfer {name} {precision}", Entry(file=file, input=Model(file).input, seconds=took)


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return a result, and the seconds that it took."""
    began = time.perf_counter()
    return work(), time.perf_counter() - began


def versions() -> Iterator[dict[str, str]]:
    """Give the version of every package that took part."""
    for package in PACKAGES:
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            version = "not installed"
        yield {"package": package, "version": version}


if __name__ == "__main__":
    main()
