"""The Python API: the functions behind the commands, for paths, objects and modules of your own.

    import effxfer as ex

    dense = ex.finetune("timm:mobilenetv2_100@weights.safetensors", data="photos", out="runs/dense", epochs=6)
    small = ex.prune_channels(dense, out="runs/small", latency_ratio=0.5)
    onnx = ex.export(small, out="runs/onnx")
    print(ex.bench([onnx], baseline=ex.export(dense, out="runs/dense-onnx")))
    ex.Model("runs/onnx/model.onnx").predict(["cat.jpg"])

Functions that write a model directory have these arguments in common:

    source    the network to start from: a model directory, the name of a bundled model, `timm:NAME[@FILE]`,
              `torchvision:NAME[@FILE]`, `package.module:factory`, a dictionary of `[backbone]`, a `Result`, or what
              `load` returned
    out       the model directory to write; an existing result of the same inputs is returned without any work
    data      a folder of class folders, a table, `digits`, a dictionary of settings, or what `load_data` returned;
              None for the data that the model was made with. A list has a task in each entry
    seed      the random seed; 0 if None
    device    `auto`, `cpu`, `cuda` or `cuda:1`
    force     whether to replace a result of other inputs
    settings  more settings as a nested dictionary with the keys of a pipeline; it overrides keyword arguments
    extra     more settings by name, such as `fit={"optimizer": "sgd"}`

They return a `Result` with the report, the directory and its manifest, and the network.

They raise `SettingsError` for a wrong argument, `DataError` for unusable data, `ModelFileError` for an unusable model,
and `ResourceError` if memory, disk or a server is not available. They raise `LockedError` if another process writes to
`out`, and `GateError` if a result misses a limit. All are kinds of `EffxferError`.

If a file names a network of a third-party module, use it within `with ex.trust("package.module:factory"):`.
"""

from effxfer.api.adapters import apply_adapter, load_adapter
from effxfer.api.class_tables import ClassTableFile, embed_classes
from effxfer.api.deliver import Comparison, bench, export, quantize
from effxfer.api.diagnose import Diagnosis, check_cpus, doctor
from effxfer.api.examine import DataCheck, ModelList, Ranking, check, list_models, rank
from effxfer.api.job import preview
from effxfer.api.modules import ExportedFile, ModuleResult, reconstruct
from effxfer.api.pipelines import Leaderboard, PipelineRun, leaderboard, run, status
from effxfer.api.prune import compact, find_ticket, prune_channels, prune_to_latency, prune_vocabulary
from effxfer.api.result import Backbone, LoadedAdapter, LoadedTicket, Reported, Result
from effxfer.api.sources import Dataset, load, load_data
from effxfer.api.tickets import load_ticket, pack_ticket, train_ticket
from effxfer.api.train import clip, compete, continual, finetune, learning_curve, pretrain, qat, search_head, shrink
from effxfer.api.transfer_report import transfer_report
from effxfer.net.backbones.trust import trust

__all__ = [
    "Backbone",
    "ClassTableFile",
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
    "clip",
    "compact",
    "compete",
    "continual",
    "doctor",
    "embed_classes",
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
    "pretrain",
    "preview",
    "prune_channels",
    "prune_to_latency",
    "prune_vocabulary",
    "qat",
    "quantize",
    "rank",
    "reconstruct",
    "run",
    "search_head",
    "shrink",
    "status",
    "train_ticket",
    "transfer_report",
    "trust",
]
