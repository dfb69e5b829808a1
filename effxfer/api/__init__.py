"""The Python front door: the functions behind the commands, on paths or objects.

    import effxfer as ex

    dense = ex.finetune("timm:mobilenetv2_100@weights.safetensors", data="photos", out="runs/dense", epochs=6)
    small = ex.prune_channels(dense, out="runs/small", latency_ratio=0.5)
    onnx = ex.export(small, out="runs/onnx")
    print(ex.bench([onnx], baseline=ex.export(dense, out="runs/dense-onnx")))
    ex.Model("runs/onnx/model.onnx").predict(["cat.jpg"])

Functions that write a model directory take these arguments beside their own:

    source    a model directory, the name of a bundled model, `timm:NAME[@FILE]`, `torchvision:NAME[@FILE]`,
              `package.module:factory`, a `Result`, or what `load` returned
    out       the model directory to write; a result that was made from the same inputs is returned as it is
    data      a folder of class folders, a table, `digits`, a dictionary of settings, or what `load_data` returned;
              None is what the model was made with
    seed      of everything random; 0 if None
    device    `auto`, `cpu`, `cuda` or `cuda:1`
    force     replace a result that was made from other inputs
    settings  other settings as a table, as in a pipeline; a value here wins over the keyword of the same setting
    extra     other settings by name, such as `fit={"optimizer": "sgd"}`

They return a `Result`: its report, the directory with its manifest, and the network. They raise `EffxferError` for a
mistake in what was passed, missing resources, or a stage that fails; `help(effxfer.errors)` lists the kinds.

A network of somebody's module that only a file names is built within `with effxfer.trust("package.module:factory"):`.
"""

from effxfer.api.adapters import apply_adapter, load_adapter
from effxfer.api.deliver import Comparison, bench, export, quantize
from effxfer.api.diagnose import Diagnosis, check_cpus, doctor
from effxfer.api.examine import DataCheck, ModelList, Ranking, check, list_models, rank
from effxfer.api.job import preview
from effxfer.api.modules import ExportedFile, ModuleResult, reconstruct
from effxfer.api.pipelines import Leaderboard, PipelineRun, leaderboard, run, status
from effxfer.api.prune import compact, find_ticket, prune_channels, prune_to_latency
from effxfer.api.result import Backbone, LoadedAdapter, LoadedTicket, Reported, Result
from effxfer.api.sources import Dataset, load, load_data
from effxfer.api.tickets import load_ticket, pack_ticket, train_ticket
from effxfer.api.train import compete, finetune, learning_curve, qat, search_head
from effxfer.net.backbones.trust import trust

__all__ = [
    "Backbone",
    "Comparison",
    "DataCheck",
    "Dataset",
    "Diagnosis",
    "ExportedFile",
    "Leaderboard",
    "LoadedAdapter",
    "LoadedTicket",
    "ModelList",
    "ModuleResult",
    "PipelineRun",
    "Ranking",
    "Reported",
    "Result",
    "apply_adapter",
    "bench",
    "check",
    "check_cpus",
    "compact",
    "compete",
    "doctor",
    "export",
    "find_ticket",
    "finetune",
    "leaderboard",
    "learning_curve",
    "list_models",
    "load",
    "load_adapter",
    "load_data",
    "load_ticket",
    "pack_ticket",
    "preview",
    "prune_channels",
    "prune_to_latency",
    "qat",
    "quantize",
    "rank",
    "reconstruct",
    "run",
    "search_head",
    "status",
    "train_ticket",
    "trust",
]
