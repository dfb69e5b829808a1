"""The stages: each reads a model, performs one task, and writes a model directory."""

from collections.abc import Mapping
from typing import Any

from effxfer.errors import SettingsError, did_you_mean
from effxfer.stages.settings.clip_settings import Clip
from effxfer.stages.settings.common import Bench, Export, Finetune, LearningCurve, Search
from effxfer.stages.settings.compete_settings import Compete
from effxfer.stages.settings.continual_settings import Continual
from effxfer.stages.settings.pretrain_settings import Pretrain
from effxfer.stages.settings.prune_settings import Channels, Compact, Gradual, Lottery, Structured, Vocabulary
from effxfer.stages.settings.qat_settings import Qat
from effxfer.stages.settings.shrink_settings import Shrink
from effxfer.stages.settings.ticket_settings import Adapter, Ticket
from effxfer.stages.settings.transfer_report_settings import TransferReport
from effxfer.stages.stage import Stage

TRAIN, PRUNE, DELIVER = "effxfer.stages.train", "effxfer.stages.prune", "effxfer.stages.deliver"
PRUNABLE = f"{PRUNE}.preconditions:check_prunable"

STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage(name="adapter", settings=Adapter, load=f"{TRAIN}.adapter:adapter", kind="adapter"),
        Stage(name="bench", settings=Bench, load=f"{DELIVER}.bench:bench", kind="comparison"),
        Stage(name="clip", settings=Clip, load=f"{TRAIN}.image_text.clip:clip"),
        Stage(name="compete", settings=Compete, load=f"{TRAIN}.compete:compete"),
        Stage(name="continual", settings=Continual, load=f"{TRAIN}.continual.continual:continual", distributed=True),
        Stage(name="curve", settings=LearningCurve, load=f"{TRAIN}.learning_curve:curve", distributed=True),
        Stage(name="export", settings=Export, load=f"{DELIVER}.export:export", kind="files"),
        Stage(name="finetune", settings=Finetune, load=f"{TRAIN}.finetune:finetune", distributed=True),
        Stage(name="pretrain", settings=Pretrain, load=f"{TRAIN}.pretrain:pretrain", distributed=True),
        Stage(
            name="prune channels", settings=Channels, load=f"{PRUNE}.channels:channels", distributed=True,
            precondition=PRUNABLE,
        ),
        Stage(name="prune compact", settings=Compact, load=f"{PRUNE}.compact:compact", precondition=PRUNABLE),
        Stage(
            name="prune gradual", settings=Gradual, load=f"{PRUNE}.gradual:gradual", distributed=True,
            leaves_ticket=True, precondition=PRUNABLE,
        ),
        Stage(
            name="prune lottery", settings=Lottery, load=f"{PRUNE}.lottery:lottery", distributed=True,
            leaves_ticket=True, precondition=PRUNABLE,
        ),
        Stage(
            name="prune structured", settings=Structured, load=f"{PRUNE}.channel_lottery:structured", distributed=True,
            leaves_ticket=True, precondition=PRUNABLE,
        ),
        Stage(
            name="prune vocabulary", settings=Vocabulary, load=f"{PRUNE}.vocabulary:vocabulary",
            precondition=f"{PRUNE}.preconditions:check_vocabulary_prunable",
        ),
        Stage(name="qat", settings=Qat, load=f"{TRAIN}.qat:qat", distributed=True),
        Stage(name="search", settings=Search, load="effxfer.stages.head_search.search:search"),
        Stage(
            name="shrink", settings=Shrink, load="effxfer.stages.shrink.shrink:shrink",
            precondition="effxfer.stages.shrink.shrinkable:check_shrinkable",
        ),
        Stage(name="ticket", settings=Ticket, load=f"{PRUNE}.ticket:ticket", kind="ticket", distributed=True),
        Stage(
            name="transfer_report", settings=TransferReport, load=f"{DELIVER}.transfer_report:transfer_report",
            kind="comparison",
        ),
    )
}  # fmt: skip


def stage_of(table: Mapping[str, Any]) -> str:
    """Return the name of the stage that a pipeline's table selects by `run` and, for pruning, `method`.

    Raises:
        SettingsError: If there is no such stage; the message suggests the nearest name.
    """
    run, method = str(table.get("run", "")), str(table.get("method", "lottery"))
    name = f"{run} {method}" if run == "prune" else run
    if name in STAGES:
        return name
    if run == "prune":
        methods = [n.split()[1] for n in STAGES if n.startswith("prune ")]
        raise SettingsError(f"no pruning method {method!r}{did_you_mean(method, methods)}", f"methods: {methods}")
    runs = sorted({n.split()[0] for n in STAGES})
    raise SettingsError(f"no stage {run!r}{did_you_mean(run, runs)}", f"stages are: {', '.join(runs)}")
