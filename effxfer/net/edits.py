"""Edit a network's architecture; edits are recorded as JSON and replayed to rebuild it."""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import nn

from effxfer.errors import ModelFileError, did_you_mean
from effxfer.net.adapters.bottleneck import houlsby, parallel_adapter
from effxfer.net.adapters.ia3 import ia3
from effxfer.net.adapters.lora import lora
from effxfer.net.adapters.prompts import prompts
from effxfer.net.adapters.ssf import ssf
from effxfer.net.early_exit import exit_early
from effxfer.net.heads.build import build_head
from effxfer.net.heads.label_words import label_words_head
from effxfer.net.heads.multi_head import MultiHead
from effxfer.net.heads.spec import HeadSpec
from effxfer.net.heads.task_heads import build_task_heads
from effxfer.net.low_rank.low_rank_layer import factorize
from effxfer.net.multi_task.cross_stitch import cross_stitch
from effxfer.net.net import KEEP, Edit, Net
from effxfer.net.removed_block import RemovedBlock
from effxfer.net.text.masked_head import set_masked_head
from effxfer.net.text.vocabulary import prune_vocabulary
from effxfer.runtime.inputs import Input
from effxfer.runtime.multi_task.task_outputs import TaskOutputs
from effxfer.runtime.outputs.base import Output
from effxfer.runtime.outputs.registry import output_from_json
from effxfer.runtime.outputs.single_label import SingleLabel
from effxfer.settings import build

BODY = "body."
HEAD_EDITS = ("grow_head", "keep_tasks", "set_head", "set_masked_head", "set_output")
TASK_PARTS = ("gates", "heads", "pool/tasks")  # of a head: lists with an entry for each task
LARGE = 2**20  # no layer of a backbone gives more features
Sizes = dict[str, dict[str, Any]]


def set_head(
    net: Net,
    *,
    spec: Mapping[str, Any],
    features: int | Sequence[int],
    classes: Sequence[str],
    taps: Sequence[str] = ("out",),
    output: Mapping[str, Any] | None = None,
    embeddings: int = 0,
) -> None:
    """Set an untrained head, fed by the named layers; `features` are the channels of each, or their sum.

    `output` says what its columns mean where they are not single labels of `classes`; `embeddings` how many numbers
    describe a class that a head of kind `compare` knows.
    """
    _check_size("head", features if isinstance(features, int) else sum(features))
    head = build(HeadSpec, spec, "head")
    if head.position_pools and net.input.kind == "text":
        text = f"a head that pools by {head.position_pools[0]} would see the padding of texts"
        raise ModelFileError(text, "give pool = 'mean'")
    _check_size("class_embeddings", embeddings)
    if (head.kind == "compare") != (embeddings > 0):
        text = f"an edit sets a {head.kind} head with {embeddings} numbers of each class"
        raise ModelFileError(text, "get an intact copy", code="E404")
    tasks = read_output(output) if output else None
    if isinstance(tasks, TaskOutputs):
        widths = [each.width for each in tasks.outputs.values()]
        net.head = build_task_heads(head, features, widths, tasks.positions)
    elif head.kind == "label_words":
        net.head = label_words_head(net, len(classes))
    else:
        net.head = build_head(head, features, len(classes), embeddings)
    net.output, net.taps = SingleLabel(classes=tuple(classes)), tuple(taps)
    net.text = None  # another head has another space
    if output:
        set_output(net, output=output)
    if net.output.per == "position" and (reason := _position_mistake(net, head)):
        raise ModelFileError(f"labels of kind {net.output.kind!r} need {reason}", "give another head")


def _position_mistake(net: Net, head: HeadSpec) -> str:
    """Return what a head for each position of a text lacks; empty if it works on tokens `(B, n, D)`."""
    if net.input.kind != "text":
        return "a network of texts"
    # Their statistics and angles are of one vector for each example.
    vectors = head.kind not in ("linear", "mlp") or head.standardize or head.norm == "batch"
    return "a linear or mlp head without standardize and batch norm" if vectors else ""


def set_output(net: Net, *, output: Mapping[str, Any]) -> None:
    """Set the kind of label that the head answers with, such as thresholds that were chosen after training.

    Raises:
        ModelFileError: If it is unreadable, or has other columns than the head.
    """
    new = read_output(output)
    if len(new.classes) != len(net.classes):
        text = f"an edit names {len(new.classes)} columns of a head that has {len(net.classes)}"
        raise ModelFileError(text, "get an intact copy", code="E404")
    if isinstance(net.output, TaskOutputs) and getattr(new, "names", ()) != net.output.names:
        raise ModelFileError("an edit names other tasks than the heads have", "get an intact copy", code="E404")
    net.output = new


def read_output(output: Mapping[str, Any]) -> Output:
    """Read the output of an edit.

    Raises:
        ModelFileError: If it is unreadable.
    """
    try:
        return output_from_json(output)
    except ValueError as error:
        raise ModelFileError(f"an edit sets an unreadable output: {error}", "get an intact copy", code="E404") from None


def keep_tasks(net: Net, *, tasks: Sequence[str]) -> None:
    """Remove the heads of all other tasks; a single one becomes the network's plain head.

    Raises:
        ModelFileError: If the network has no such tasks, or its head cannot do without one of them.
    """
    output, head = net.output, net.head
    names = output.names if isinstance(output, TaskOutputs) else ()
    if not isinstance(output, TaskOutputs) or not isinstance(head, MultiHead) or not tasks or {*tasks} - {*names}:
        raise ModelFileError(f"an edit keeps the tasks {', '.join(tasks)}, which the network lacks", code="E404")
    numbers = [number for number, name in enumerate(output.names) if name in tasks]
    net.head = head.select(numbers)
    # Masks of a ticket are called by the path of their weight; other parts serve every task.
    for part in [f"{KEEP}head/{part}/" for part in TASK_PARTS]:
        for mask in [name for name, _ in net.named_buffers(recurse=False) if name.startswith(part)]:
            _move_mask(net, mask, part, numbers)
    net.output = output.select(tasks)


def _move_mask(net: Net, mask: str, part: str, numbers: Sequence[int]) -> None:
    keep = getattr(net, mask)
    delattr(net, mask)
    number, leaf = mask.removeprefix(part).split("/", 1)
    if int(number) in numbers:
        inside = f"{part}{numbers.index(int(number))}/" if isinstance(net.head, MultiHead) else f"{KEEP}head/"
        net.register_buffer(inside + leaf, keep)


def sparsify(net: Net, *, weights: Sequence[str]) -> None:
    """Add a mask to the named weights; masks are buffers, so they are saved with the weights."""
    for name in weights:
        mask = torch.ones_like(net.get_parameter(name), dtype=torch.bool)
        net.register_buffer(KEEP + name.replace(".", "/"), mask)


def resize(net: nn.Module, *, shapes: Mapping[str, Sequence[int]], sizes: Mapping[str, Mapping[str, Any]]) -> None:
    """Set the shapes of tensors and the attributes of modules after pruning.

    Raises:
        ModelFileError: If an attribute is something else than a number, or than numbers.
    """
    for name, shape in shapes.items():
        owner, leaf = _owner(net, name)
        old = getattr(owner, leaf)
        _check_size(name, prod(shape), old.numel())
        new = torch.zeros(list(shape), dtype=old.dtype, device=old.device)
        setattr(owner, leaf, nn.Parameter(new) if isinstance(old, nn.Parameter) else new)
    for name, attributes in sizes.items():
        module = net.get_submodule(name)
        for attribute, value in attributes.items():
            if attribute.startswith("_") or (
                attribute not in _numeric_attributes(module) and hasattr(module, attribute)
            ):
                raise ModelFileError(f"{name}.{attribute} is no number that pruning may change", code="E404")
            _check_number(f"{name}.{attribute}", getattr(module, attribute, None), value)
            setattr(module, attribute, tuple(value) if isinstance(value, list) else value)


def add_bias(net: nn.Module, *, layers: Sequence[str]) -> None:
    """Give layers without a bias one of zeros."""
    for name in layers:
        module = net.get_submodule(name)
        weight = module.get_parameter("weight")
        module.bias = nn.Parameter(torch.zeros(weight.shape[0], dtype=weight.dtype, device=weight.device))


def grey(net: Net) -> None:
    """Feed the body the mean of the three channels: it was made for grey images."""
    net.body.register_forward_pre_hook(_average_channels)


def grow_head(net: Net, *, classes: Sequence[str]) -> None:
    """Add untrained rows for more classes behind those of the head; `classes` are all, the present ones first.

    Raises:
        ModelFileError: If the head has no row for each class, or they are not its own and further ones.
    """
    _check_size("head", len(classes))
    if tuple(classes[: len(net.classes)]) != net.classes or not isinstance(net.output, SingleLabel):
        text = "an edit adds classes to a head, and does not begin with those that it has"
        raise ModelFileError(text, "get an intact copy", code="E404")
    before = getattr(net.head, "out", None)
    if not isinstance(before, nn.Linear) or before.out_features != len(net.classes):
        text = "the head has no row of its own for each class"
        raise ModelFileError(f"{text}, to which others could be added", "give it a linear head")
    net.head.out = _longer(before, len(classes))
    for name in ("weight", "bias"):
        if (mask := net.masks().get(f"head.out.{name}")) is not None:
            rows = mask.new_ones((len(classes) - len(mask), *mask.shape[1:]))
            net.register_buffer(f"{KEEP}head/out/{name}", torch.cat([mask, rows]))
    net.output = SingleLabel(classes=tuple(classes))


@torch.no_grad()
def _longer(layer: nn.Linear, rows: int) -> nn.Linear:
    """Return a layer with more rows, whose first are those of `layer`."""
    longer = nn.Linear(layer.in_features, rows, bias=layer.bias is not None).to(layer.weight)
    longer.weight[: layer.out_features] = layer.weight
    if layer.bias is not None:
        longer.bias[: layer.out_features] = layer.bias
    return longer


def densify(net: Net, *, weights: Sequence[str]) -> None:
    """Remove the masks of the named weights."""
    for name in weights:
        delattr(net, KEEP + name.replace(".", "/"))


def remove_blocks(net: nn.Module, *, names: Sequence[str]) -> None:
    """Replace modules that preserve a tensor's shape, such as residual blocks, by the identity.

    Raises:
        ModelFileError: If one of them is not there, or feeds the head by a tap.
    """
    modules = dict(net.named_modules())
    for name in names:
        if name not in modules:
            raise ModelFileError(f"the network has no block {name!r}{did_you_mean(name, modules)}")
        if is_tapped_within(net, name):
            raise ModelFileError(f"{name} cannot be left out: the head is fed by it", "choose other taps")
    for name in names:
        inside = KEEP + f"{name}.".replace(".", "/")
        for mask in [key for key, _ in net.named_buffers(recurse=False) if key.startswith(inside)]:
            delattr(net, mask)
        net.set_submodule(name, RemovedBlock())


def is_tapped_within(net: nn.Module, name: str) -> bool:
    """Whether the head is fed by a module or by something inside it."""
    return isinstance(net, Net) and any(f"body.{tap}.".startswith(f"{name}.") for tap in net.taps)


def body_edits(edits: Sequence[Edit]) -> list[Edit]:
    """Return the edits without their parts about the head, which belongs to a task and not to the body."""
    lists = {"add_bias": "layers", "densify": "weights", "sparsify": "weights"}
    selected = list[Edit]()
    for edit in edits:
        if edit["kind"] in lists:
            names = lists[edit["kind"]]
            edit = {**edit, names: [name for name in edit[names] if name.startswith(BODY)]}
        elif edit["kind"] == "resize":
            edit = {
                "kind": "resize",
                "shapes": {n: shape for n, shape in edit["shapes"].items() if n.startswith((BODY, KEEP + "body/"))},
                "sizes": {n: size for n, size in edit["sizes"].items() if n == "body" or n.startswith(BODY)},
            }
        if edit["kind"] not in HEAD_EDITS:
            selected.append(edit)
    return selected


def remove_head(net: Net) -> None:
    """Remove the head of a network, with its edits and masks, so that it gives features."""
    net.edits = body_edits(net.edits)
    for name in [name for name, _ in net.named_buffers(recurse=False) if name.startswith(KEEP + "head/")]:
        delattr(net, name)
    net.head, net.output, net.taps, net.smoothing = nn.Identity(), SingleLabel(), ("out",), 0.0
    net.text = None


def measure_shapes(net: nn.Module) -> tuple[dict[str, list[int]], Sizes]:
    """Return every tensor's shape and every module's numeric attributes, which pruning may change."""
    shapes = {name: list(tensor.shape) for name, tensor in net.state_dict().items()}
    return shapes, {name: _numeric_attributes(module) for name, module in net.named_modules()}


def record_resize(net: Net, before: tuple[dict[str, list[int]], Sizes]) -> None:
    """Append the `resize` edit from `before` (a result of `measure_shapes`) to the network's present shapes."""
    shapes, sizes = measure_shapes(net)
    if shapes.keys() != before[0].keys():
        raise ModelFileError(
            "pruning added or removed tensors", "report the network's name: it needs a rule of its own"
        )
    changed = {
        name: {key: value for key, value in values.items() if before[1][name].get(key) != value}
        for name, values in sizes.items()
    }
    net.edits.append(
        {
            "kind": "resize",
            "shapes": {name: shape for name, shape in shapes.items() if before[0][name] != shape},
            "sizes": {name: values for name, values in changed.items() if values},
        }
    )


def _average_channels(_body: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return (inputs[0].mean(1, keepdim=True), *inputs[1:])


def _check_size(name: str, size: int, before: int = 0) -> None:
    """Refuse a size with which a damaged or foreign file could fill the memory: pruning makes no tensor larger.

    Raises:
        ModelFileError: If there are more numbers than `LARGE`, and than before.
    """
    if size > max(before, LARGE):
        text = f"an edit makes {name} of {size:,} numbers, where {before or LARGE:,} are the most"
        raise ModelFileError(text, "get an intact copy", code="E405")


def _check_number(name: str, before: Any, value: Any) -> None:
    """Refuse a count or a stride of 0, and a kernel or a padding that grew: they make a pass impossible, or endless.

    Raises:
        ModelFileError: If pruning could not have made this number of the one before.
    """
    if isinstance(before, int) and isinstance(value, int):
        fits = value >= min(before, 1)
    elif isinstance(before, tuple) and isinstance(value, list):
        fits = len(value) == len(before) and all(min(b, 1) <= v <= b for v, b in zip(value, before, strict=True))
    else:
        fits = True
    if not fits:
        raise ModelFileError(f"an edit makes {name} {value}, where it is {before}", "get an intact copy", code="E404")


def _numeric_attributes(module: nn.Module) -> dict[str, Any]:
    """Return the attributes that are numbers or tuples of integers, in their JSON form."""
    numbers: dict[str, Any] = {}
    for key, value in vars(module).items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            numbers[key] = value
        elif isinstance(value, tuple) and value and all(isinstance(v, int) for v in value):
            numbers[key] = list(value)
    return numbers


def _owner(net: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, leaf = name.rpartition(".")
    return net.get_submodule(path), leaf


EDITS: dict[str, Callable[..., None]] = {
    "add_bias": add_bias,
    "cross_stitch": cross_stitch,
    "cut": exit_early,
    "densify": densify,
    "factorize": factorize,
    "grey": grey,
    "grow_head": grow_head,
    "houlsby": houlsby,
    "ia3": ia3,
    "keep_tasks": keep_tasks,
    "lora": lora,
    "parallel_adapter": parallel_adapter,
    "prompts": prompts,
    "prune_vocabulary": prune_vocabulary,
    "remove_blocks": remove_blocks,
    "resize": resize,
    "set_head": set_head,
    "set_masked_head": set_masked_head,
    "set_output": set_output,
    "sparsify": sparsify,
    "ssf": ssf,
}


def apply_edit(net: Net, kind: str, **arguments: Any) -> None:
    """Change a network's architecture and record the change.

    Args:
        net: Network, changed in place.
        kind: A key of `EDITS`.
        arguments: Arguments of the edit, in their JSON form.
    """
    EDITS[kind](net, **arguments)
    net.edits.append({"kind": kind, **arguments})


def rebuild(backbone: Mapping[str, Any], edits: Sequence[Edit], input: Input, classes: Sequence[str] = ()) -> Net:
    """Build an untrained network by replaying recorded edits."""
    net = Net(backbone, input)
    for edit in edits:
        apply_edit(net, **edit)
    if isinstance(net.output, SingleLabel):
        net.output = SingleLabel(classes=tuple(classes))
    return net
