"""Rules for operations between layers: how they move, combine or reduce channels."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from effxfer.prune.graph.channel_ids import AxisIds, ChannelLabels, ElementIds, Label, spread, tensors_in


@dataclass(frozen=True, kw_only=True, eq=False)
class Operation:
    """One executed aten operation of torch.

    Attributes:
        func: The operation.
        args: Positional arguments.
        kwargs: Keyword arguments.
        tensors: The tensors among the arguments.
        labels: Their labels.
        outputs: The tensors that it returned.
    """

    func: Any
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    tensors: Sequence[Tensor]
    labels: Sequence[Label]
    outputs: Sequence[Tensor]

    def argument(self, place: int, default: Any) -> Any:
        """Return an argument by its position."""
        return self.args[place] if len(self.args) > place else default

    @property
    def name(self) -> str:
        """Its name without namespace, overload, and the underscore of those that work in place."""
        return str(self.func.overloadpacket.__name__).rstrip("_")

    @property
    def inplace(self) -> bool:
        """Whether it changes its first argument."""
        return str(self.func.overloadpacket.__name__).endswith("_")


def label_outputs(labels: ChannelLabels, operation: Operation) -> None:
    """Label the outputs of an operation."""
    rule = RULES.get(operation.name)
    # In place, moving and padding would change the tensor under labels that others hold.
    if rule is not None and not (operation.inplace and rule in (move, pad)):
        rule(labels, operation)
    elif "scaled_dot_product" in operation.name:
        attend(labels, operation)
    # torch's own mark of what works element by element: no list of activations to keep.
    elif torch.Tag.pointwise in operation.func.tags:
        combine(labels, operation)
    elif operation.outputs:
        refuse(labels, operation)


def refuse(labels: ChannelLabels, operation: Operation) -> None:
    """Pin all input channels of an operation that has no rule."""
    labels.pin(operation.labels, f"does with them what is not understood ({operation.name})")


def move(labels: ChannelLabels, operation: Operation) -> None:
    """Apply the operation to the channel ids as well."""
    is_list = isinstance(operation.args[0], list | tuple)
    sources = list(operation.args[0]) if is_list else [operation.args[0]]
    source_labels = [labels.of(source) for source in sources]
    if any(labels.of(tensor) is not None for tensor in tensors_in(list(operation.args[1:]))):
        refuse(labels, operation)
        return
    if isinstance(source_labels[0], AxisIds):
        _tie_cut_parts(labels, source_labels[0], operation)
    full = [spread(label, source) for label, source in zip(source_labels, sources, strict=True)]
    if operation.name in RESHAPES:
        moved = full[0].reshape(operation.outputs[0].shape)
    else:
        moved = operation.func(full if is_list else full[0], *operation.args[1:], **operation.kwargs)
    axes = [label.axis for label in source_labels if isinstance(label, AxisIds)]
    # Both may leave several axes that vary; channels go on along the one that they came along.
    prefer = axes[0] if axes and operation.name in ("cat", "pixel_shuffle") else None
    for output, ids in zip(operation.outputs, tensors_in(moved), strict=True):
        labels.set(output, labels.pack(ids, prefer) if axes else ElementIds(ids))
    _remember_sizes(labels, operation)


def _tie_cut_parts(labels: ChannelLabels, label: AxisIds, operation: Operation) -> None:
    """Tie the equal parts into which a module splits its channels: it will split fewer channels equally, too."""
    count, reason = len(label.ids), f"{labels.place} cuts them in parts"
    if operation.name == "channel_shuffle":
        labels.trail.tie_parts(label.ids, operation.args[1], reason)
    if operation.name not in CUTS or _axis(operation) != label.axis or labels.place in labels.cuts_unequally:
        return
    sizes = {output.shape[label.axis] for output in operation.outputs}
    start = operation.argument(2, 0) or 0 if operation.name == "slice" else 0
    stepped = operation.name == "slice" and operation.argument(4, 1) != 1
    size = max(sizes)
    # Equal parts only: an attention that cuts queries, keys and values cuts fewer channels equally, too.
    if len(sizes) == 1 and size and not stepped and count % size == 0 and start % size == 0:
        labels.trail.tie_parts(label.ids, count // size, reason)


def _axis(operation: Operation) -> int:
    """The axis along which an operation cuts."""
    axis: int = operation.argument(1 if operation.name == "slice" else 2, 0)
    return axis % operation.tensors[0].dim()


def _remember_sizes(labels: ChannelLabels, operation: Operation) -> None:
    """Record the sizes of channel axes that a module may hold as an attribute."""
    sizes = labels.trail.sizes
    for output in operation.outputs if operation.name in NAMING else ():
        label = labels.of(output)
        if isinstance(label, AxisIds):
            sizes.append((labels.place, len(label.ids), label.ids))
    label = operation.labels[0]
    if operation.name not in CUTS or not isinstance(label, AxisIds) or _axis(operation) != label.axis:
        return
    sizes.append((labels.place, len(label.ids), label.ids))
    if operation.name == "slice":
        ends = [operation.argument(place, None) for place in (2, 3)]
        valid_ends = [end for end in ends if isinstance(end, int) and 0 < end <= len(label.ids)]
        sizes += [(labels.place, end, label.ids[:end]) for end in valid_ends]


def keep(labels: ChannelLabels, operation: Operation) -> None:
    """Label the outputs like the first input: their axes are the same."""
    for output in operation.outputs:
        labels.set(output, operation.labels[0])


def stride(labels: ChannelLabels, operation: Operation) -> None:
    """Follow an operation that only changes the memory layout."""
    same_shape = operation.outputs[0].shape == operation.tensors[0].shape
    (keep if same_shape else refuse)(labels, operation)


def resample(labels: ChannelLabels, operation: Operation) -> None:
    """Follow pooling, padding and interpolation over the last two axes."""
    label = operation.labels[0]
    spatial = isinstance(label, AxisIds) and label.axis < operation.tensors[0].dim() - 2
    (keep if spatial else refuse)(labels, operation)


def pad(labels: ChannelLabels, operation: Operation) -> None:
    """Follow padding with a constant: what is new among channels belongs to none."""
    label, padding = operation.labels[0], operation.args[1]
    if not isinstance(label, AxisIds):
        refuse(labels, operation)
        return
    place = 2 * (operation.tensors[0].dim() - 1 - label.axis)
    before, after = padding[place : place + 2] or (0, 0)
    if min(before, after) < 0:
        labels.pin([label], "crops them")
        return
    ids = torch.cat([label.ids.new_zeros(before), label.ids, label.ids.new_zeros(after)])
    labels.set(operation.outputs[0], AxisIds(label.axis, ids))


def reduce(labels: ChannelLabels, operation: Operation) -> None:
    """Follow sums, means and norms over some axes."""
    label, x = operation.labels[0], operation.tensors[0]
    if not isinstance(label, AxisIds):
        refuse(labels, operation)
        return
    axis_lists = [argument for argument in operation.args[1:] if isinstance(argument, list | tuple)]
    reduced = [d % x.dim() for d in (axis_lists[0] if axis_lists and axis_lists[0] else range(x.dim()))]
    if label.axis in reduced:
        labels.trail.add_average(labels.place, label.ids)
        return
    for output in operation.outputs:
        before = 0 if output.dim() == x.dim() else sum(d < label.axis for d in reduced)
        labels.set(output, AxisIds(label.axis - before, label.ids))


def softmax(labels: ChannelLabels, operation: Operation) -> None:
    """Follow a softmax, which mixes channels if it is over them."""
    label = operation.labels[0]
    if isinstance(label, AxisIds) and operation.args[1] % operation.tensors[0].dim() == label.axis:
        labels.trail.add_average(labels.place, label.ids)
    keep(labels, operation)


def copy(labels: ChannelLabels, operation: Operation) -> None:
    """Follow a copy into another tensor."""
    labels.set(operation.outputs[0], operation.labels[1])


def combine(labels: ChannelLabels, operation: Operation) -> None:
    """Tie channels that are combined element by element."""
    output = operation.outputs[0]
    pairs = list(zip(operation.tensors, operation.labels, strict=True))
    carried = [(t, label) for t, label in pairs if isinstance(label, AxisIds)]
    if not carried:
        _combine_parameters(labels, operation)
        return
    main: AxisIds = carried[0][1]
    axis = main.axis - carried[0][0].dim()  # from the end, because shapes are broadcast from there
    for tensor, label in carried[1:]:
        if label.axis - tensor.dim() == axis and len(label.ids) == len(main.ids):
            labels.trail.ties.tie(main.ids, label.ids, f"{labels.place} combines them with something else")
        else:
            labels.pin([label], "combines every one of them with others")
    for tensor, other_label in pairs:
        if not isinstance(other_label, AxisIds) and tensor.dim() >= -axis and tensor.shape[axis] > 1:
            _combine_with(labels, main, axis, tensor, other_label)
    for result in operation.outputs:
        labels.set(result, AxisIds(output.dim() + axis, main.ids))


def _combine_with(labels: ChannelLabels, main: AxisIds, axis: int, tensor: Tensor, label: ElementIds | None) -> None:
    """Tie channels to a parameter; beside other numbers they stay, unless those are one number repeated."""
    if label is not None:
        rows = label.ids.movedim(axis, -1)
        labels.trail.ties.tie(main.ids.expand(rows.shape).contiguous(), rows.contiguous(), "")
    # Stride 0 is one number repeated, which fits any number of channels.
    elif tensor.stride(axis) != 0:
        labels.pin([main], "combines them with numbers of its own")


def _combine_parameters(labels: ChannelLabels, operation: Operation) -> None:
    """Follow a parameter that is combined with single numbers."""
    raws = [(t, label) for t, label in zip(operation.tensors, operation.labels, strict=True) if label is not None]
    unlabelled = [t for t, label in zip(operation.tensors, operation.labels, strict=True) if label is None]
    if len(raws) == 1 and all(t.numel() == 1 for t in unlabelled) and raws[0][0].shape == operation.outputs[0].shape:
        labels.set(operation.outputs[0], raws[0][1])
    else:
        refuse(labels, operation)


def multiply(labels: ChannelLabels, operation: Operation) -> None:
    """Follow a matrix product: what is summed over is tied, what lies along the other axes goes on."""
    first, second = operation.labels[-2:]
    if any(isinstance(label, ElementIds) for label in operation.labels):
        refuse(labels, operation)
        return
    last = operation.outputs[0].dim() - 1
    sides = tuple(label.axis if isinstance(label, AxisIds) else None for label in (first, second))
    if first is not None and second is not None and sides in ((last, last - 1), (last - 2, last - 2)):
        labels.trail.ties.tie(first.ids, second.ids, f"{labels.place} multiplies them with something else")
        labels.set(operation.outputs[0], None if sides[0] == last else first)
    elif sides == (last - 1, None):
        labels.set(operation.outputs[0], first)
    elif sides == (None, last):
        labels.set(operation.outputs[0], second)
    else:
        labels.pin([first, second], "multiplies every one of them with others")


def attend(labels: ChannelLabels, operation: Operation) -> None:
    """Follow scaled dot-product attention: the width of queries is tied to that of keys."""
    (query, key, value), extra_labels = operation.labels[:3], operation.labels[3:]
    last = operation.tensors[0].dim() - 1
    labels.pin(extra_labels, "attends by means of them")
    plain = all(label is None or (isinstance(label, AxisIds) and label.axis == last) for label in (query, key, value))
    if not plain or (query is None) != (key is None):
        labels.pin([query, key, value], "attends to others than positions")
        return
    if query is not None and key is not None:
        labels.trail.ties.tie(query.ids, key.ids, f"{labels.place} attends by means of something else")
        # torch then divides by the root of the width, which pruning changes.
        if operation.kwargs.get("scale") is None:
            labels.trail.scaled[labels.place] = query.ids
    labels.set(operation.outputs[0], value)


RESHAPES = ("view", "_unsafe_view", "reshape")
CUTS = ("split", "split_with_sizes", "slice")
NAMING = (*RESHAPES, "expand", "split", "split_with_sizes")
MOVES = (
    *(*NAMING, "slice", "permute", "transpose", "t", "select", "cat", "stack", "unbind", "squeeze", "unsqueeze"),
    *("roll", "flip", "index_select", "index", "repeat", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle"),
)
RESAMPLES = (
    *("max_pool2d_with_indices", "avg_pool2d", "_adaptive_avg_pool2d", "adaptive_max_pool2d", "reflection_pad2d"),
    *("replication_pad2d", "upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d"),
)
RULES: dict[str, Callable[[ChannelLabels, Operation], None]] = {
    **dict.fromkeys(MOVES, move),
    **dict.fromkeys(RESAMPLES, resample),
    **dict.fromkeys(("mean", "sum", "amax", "amin", "linalg_vector_norm", "var", "std", "var_mean"), reduce),
    **dict.fromkeys(("mm", "bmm", "addmm", "baddbmm"), multiply),
    **dict.fromkeys(("clone", "_to_copy", "alias", "detach", "lift_fresh", "native_dropout"), keep),
    **dict.fromkeys(("_softmax", "_log_softmax"), softmax),
    **dict.fromkeys(("hardswish", "rsub", "lerp", "masked_fill"), combine),
    "as_strided": stride,
    "constant_pad_nd": pad,
    "copy": copy,
}
