"""How often a model differs from itself by 2 % or more: the false difference of 20 runs of `effxfer bench`'s protocol.

`python -m benchmarks noise` prints one row. The network is MobileNetV2 at 128 px with random weights, one thread.
"""

from pathlib import Path
from typing import Any

from benchmarks.timing import row

RUNS = 20
LIMIT = 0.02


def measure(folder: Path) -> dict[str, Any]:
    import timm

    from effxfer.benchmark.compare import bench_models
    from effxfer.deploy.export.onnx import export_onnx
    from effxfer.runtime.images.preprocess import Preprocess

    net = timm.create_model("mobilenetv2_100", num_classes=10).eval()
    about = Preprocess(size=128)
    file = export_onnx(net, folder / "model.onnx", input=about, classes=[str(i) for i in range(10)], key="noise")
    found = []
    for seed in range(RUNS):
        report = bench_models({"it": file}, baseline="it", precision=0.01, memory=False, seed=seed)
        found.append(report["noise"].value)
    under = sum(abs(ratio - 1) < LIMIT for ratio in found)
    goal = f"{RUNS} of {RUNS} under 2 % from 1; {under} are"
    return row("a model in bench", found, "itself", [1.0] * RUNS, "x", goal)
