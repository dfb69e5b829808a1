"""Put the heads of a search into a network, beside those that stay."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from effxfer.data.task import Task
from effxfer.errors import SettingsError
from effxfer.net.compression.resize import measure_shapes, record_resize
from effxfer.net.edits import apply_edit
from effxfer.net.heads.multi_head import MultiHead
from effxfer.net.heads.per_task import PerTaskHead
from effxfer.net.heads.spec import OF_TASKS, HeadSpec, TaskHead
from effxfer.net.net import Net
from effxfer.net.taps import tap_widths
from effxfer.runtime.multi_task.task_outputs import TaskOutputs
from effxfer.search.finalist import SearchResult
from effxfer.settings import build
from effxfer.stages.head_search.features import FeaturePlan, deepest_layer
from effxfer.stages.train.head import answers_task, end_body, head_columns, head_of


@dataclass(frozen=True, kw_only=True, eq=False)
class KeptHead:
    """The head of a task that stays, with what pools its layers."""

    spec: HeadSpec
    taps: tuple[str, ...]
    head: nn.Module
    pool: nn.Module | None


def replace_head(net: Net, plan: FeaturePlan, result: SearchResult, task: Task) -> None:
    """Replace a network's head by the selected one, and remove layers of the body that it does not need."""
    taps = source_layers(plan, result)
    widths = tap_widths(net, taps)
    channels = [widths[tap] for tap in taps]
    features = channels if result.spec.pools else sum(channels)
    apply_edit(net, "set_head", spec=result.spec.plain(), features=features, **head_columns(task), taps=taps)
    net.head.load_state_dict(result.state)
    end_body(net, deepest_layer(net, taps))


def replace_task_heads(net: Net, plan: FeaturePlan, results: Mapping[str, SearchResult], task: Task) -> None:
    """Replace the heads of some tasks by the selected ones, and remove layers of the body that no head needs.

    Args:
        net: Network of several tasks, changed in place. A head stays where there is no result for its task.
        plan: Layers of the features.
        results: By task.
        task: The data of all tasks.
    """
    assert isinstance(task.output, TaskOutputs)
    names = task.output.names
    present = {name: kept_head(net, name) for name in names if name not in results}
    sources = {name: source_layers(plan, results[name]) if name in results else present[name].taps for name in names}
    taps = list(dict.fromkeys(tap for layers in sources.values() for tap in layers))
    heads = [
        TaskHead(
            spec=results[name].spec if name in results else present[name].spec,
            layers=tuple(taps.index(tap) for tap in layers),
        )
        for name, layers in sources.items()
    ]
    widths = tap_widths(net, taps)
    columns = {"classes": list(task.classes), "output": _merged_output(net, task, set(results)).to_json()}
    spec = HeadSpec(kind="per_task", heads=tuple(heads))
    apply_edit(net, "set_head", spec=spec.plain(), features=[widths[tap] for tap in taps], taps=taps, **columns)
    head: Any = net.head
    for name, result in results.items():
        head.load_task_state(names.index(name), result.state)
    _put_back(net, {names.index(name): each for name, each in present.items()})
    end_body(net, deepest_layer(net, taps))


def source_layers(plan: FeaturePlan, result: SearchResult) -> list[str]:
    """Return the layers that feed a selected head: those with positions if it pools."""
    return [plan.maps[tap] if result.spec.pool != "mean" else tap for tap in result.taps]


def require_own_heads(net: Net, task: Task) -> None:
    """Refuse a network whose tasks share more than the body: their heads cannot be replaced one by one.

    Raises:
        SettingsError: Naming what they share.
    """
    kind = head_of(net).get("kind")
    if answers_task(net, task) and kind in OF_TASKS and kind != "per_task":
        text = f"search gives each task a head of its own, the tasks of this network share one of kind {kind!r}"
        raise SettingsError(text, "search a network that was trained with options.sharing = hard")


def kept_head(net: Net, name: str) -> KeptHead:
    """Return the head that a network has for a task."""
    output, head, edit = net.output, net.head, _head_edit(net)
    assert isinstance(output, TaskOutputs)
    assert isinstance(head, MultiHead)
    number, spec = output.names.index(name), build(HeadSpec, edit["spec"], "head")
    module = head.heads[number]
    if not isinstance(head, PerTaskHead):
        return KeptHead(spec=spec, taps=net.taps, head=module, pool=None)
    # The edit also has tasks that were left out since.
    recorded = [each["name"] for each in edit["output"]["tasks"]]
    task_head = spec.heads[recorded.index(name)]
    reader: Any = head.pool.tasks[number]
    return KeptHead(
        spec=task_head.spec, taps=tuple(net.taps[k] for k in task_head.layers), head=module, pool=reader.pool
    )


def _put_back(net: Net, heads: Mapping[int, KeptHead]) -> None:
    """Put heads that stay into their places; one that lost channels since it was made is recorded to have done so."""
    head: Any = net.head
    before = measure_shapes(net)
    for number, each in heads.items():
        head.heads[number] = each.head
        head.pool.tasks[number].pool = each.pool
    if measure_shapes(net) != before:
        record_resize(net, before)


def _head_edit(net: Net) -> Mapping[str, Any]:
    return next(edit for edit in reversed(net.edits) if edit["kind"] == "set_head")


def _merged_output(net: Net, task: Task, replaced: Sequence[str] | set[str]) -> TaskOutputs:
    """Return the data's outputs of replaced heads and the network's of the others, with the roles of its tasks."""
    output, present = task.output, net.output
    assert isinstance(output, TaskOutputs)
    if not isinstance(present, TaskOutputs) or not answers_task(net, task):
        return output
    outputs = {name: each if name in replaced else present.outputs[name] for name, each in output.outputs.items()}
    return TaskOutputs(outputs=outputs, main=present.main, auxiliary=present.auxiliary)
