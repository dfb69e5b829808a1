"""Export a torch module to one ONNX file with metadata for its use and without traces of the build machine."""

import contextlib
import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from effxfer import __version__
from effxfer.benchmark.measure.size import read_onnx
from effxfer.deploy.export.external_data import write_model
from effxfer.deploy.export.input_files import require_own_folder, write_input_files
from effxfer.deploy.export.opset import NATIVE, lower
from effxfer.deploy.settings import OPSET
from effxfer.errors import ModelFileError
from effxfer.runtime.inputs import Input
from effxfer.runtime.model_file.metadata import CLASS_EMBEDDINGS, FEATURES, PROTOTYPES, SEALS, Metadata, ModelError
from effxfer.runtime.model_file.seal import is_sealed, read_model
from effxfer.runtime.multi_task.task_outputs import TaskOutputs
from effxfer.runtime.outputs.base import Output
from effxfer.runtime.outputs.single_label import SingleLabel

if TYPE_CHECKING:
    import onnx

INPUT, OUTPUT, BATCH = "images", "logits", "batch"
FREE, FREE_SIZE = {0: BATCH}, {0: BATCH, 2: "height", 3: "width"}
FREE_CLASSES = {0: "classes"}
NO_EXTRA: Mapping[str, str] = {}


def export_onnx(
    module: nn.Module,
    file: Path,
    *,
    input: Input,
    classes: Sequence[str] = (),
    output: Output | None = None,
    key: str,
    opset: int = OPSET,
    dynamic_size: bool = False,
    prototypes: Tensor | None = None,
    class_embeddings: Tensor | None = None,
    extra: Mapping[str, str] = NO_EXTRA,
) -> Path:
    """Write a network as one ONNX file; above 2 GB, as one with its weights in `FILE.data` beside it.

    The input is `images`, float32 `(batch, 3, S, S)`, or `ids`, int64 `(batch, length)`; the output is `logits`,
    float32 `(batch, C)`, or for each position of a text `(batch, length, C)`. Batch and length are free axes. Each of
    several tasks has an output of its name instead, float32 `(batch, c)`, of words `(batch, length, c)`. With
    `prototypes` there is a second input of that name, float32 `(any number, D)`, which need not be given, and a second
    output `features`, `(batch, D)`. The file's metadata hold input, output, key and version; paths, stack traces and
    torch's bookkeeping are removed. The files of the input, such as `tokenizer.json`, are written beside it.

    Args:
        module: Module in evaluation mode, on any device; unchanged. With `prototypes`, it takes them as a second
            input, and returns logits and features.
        file: File to write; replaced only by a complete file.
        input: `size` is S, or the most tokens of a text; all of it goes into the metadata.
        classes: Names of the C columns, which are the logits of single labels; used without `output`.
        output: What the C columns are; None for single labels of `classes`.
        key: Key of the exported artifact.
        opset: ONNX operator set, 13 or later; checked in what was written. Below 18 the IR version is as old.
        dynamic_size: Whether height and width are free, if the network allows it; only for images.
        prototypes: Default of the second input, `(classes, D)`; None for a file without it.
        class_embeddings: Default of a second input of this name, `(classes, E)`, which need not be given; None for a
            file without it. The module then takes them as a second input, and returns logits alone.
        extra: More metadata.

    Raises:
        ModelFileError: If the module is in training mode (E430), holds NaN or inf (E407), cannot be expressed in this
            operator set (E426, below 18 E431 with the operator) or with free sides (E426), has not one output per
            column (E406), or would lie beside the tokenizer of another model (E446).
        ResourceError: If the disk is full; an older file is intact.
    """
    check_module(module)
    output = output or SingleLabel(classes=tuple(classes))
    require_own_folder(file, input)
    free: dict[str, Mapping[int, str]] = {input.name: FREE_SIZE if dynamic_size else input.free}
    examples = [_example(module, input)]
    tables = {PROTOTYPES: prototypes, CLASS_EMBEDDINGS: class_embeddings}
    second_inputs = {name: table.detach() for name, table in tables.items() if table is not None}
    free |= dict.fromkeys(second_inputs, FREE_CLASSES)
    examples += second_inputs.values()
    tasks = output.outputs if isinstance(output, TaskOutputs) else {OUTPUT: output}
    outputs = [*tasks, *([] if prototypes is None else [FEATURES])]
    model = convert(module, tuple(examples), max(opset, NATIVE), free, outputs=outputs)
    strip(model)
    leading = {"example": [BATCH], "position": [*input.free.values()]}
    axes = [[*leading[each.per], FREE_CLASSES[0] if second_inputs else each.width] for each in tasks.values()]
    _check_graph(model, axes, max(opset, NATIVE), free)
    # After the check, which compares what torch wrote with what it was asked for.
    if opset < NATIVE:
        lower(model, opset)
    for name, table in second_inputs.items():
        put_default(model, name, table)
    metadata = Metadata(input=input, output=output, key=key, version=__version__, extra=extra)
    write_metadata(model, metadata)
    # Before the model, which is refused without them.
    write_input_files(input, file.parent)
    return write_model(model, file)


def put_default(model: "onnx.ModelProto", name: str, value: Tensor) -> None:
    """Add a default value for an input, used when the caller omits it."""
    from onnx import numpy_helper

    model.graph.initializer.append(numpy_helper.from_array(value.detach().cpu().numpy(), name))


def read_metadata(file: Path) -> Metadata:
    """Read the metadata of an exported file.

    Raises:
        ModelFileError: If it is absent or not ONNX (E424), was changed since it was written (E404), or not written by
            effxfer (E428).
    """
    model = load(file)
    try:
        is_sealed(read_model(file), file)
        return Metadata.from_properties({p.key: p.value for p in model.metadata_props}, str(file), file.parent)
    except ModelError as error:
        raise ModelFileError(error.problem, error.hint, code=error.code) from None


def write_metadata(model: "onnx.ModelProto", metadata: Metadata) -> None:
    """Replace the metadata of a model."""
    import onnx

    del model.metadata_props[:]
    onnx.helper.set_model_props(model, metadata.to_properties())
    model.producer_name, model.producer_version = "effxfer", metadata.version


def load(file: Path) -> "onnx.ModelProto":
    """Read an ONNX file without external weights and without its seal.

    Raises:
        ModelFileError: If it is absent, empty or not ONNX.
    """
    model = read_onnx(file)
    # Whatever is changed would make the seal wrong; writing adds a new one.
    entries = [entry for entry in model.metadata_props if entry.key not in SEALS]
    del model.metadata_props[:]
    model.metadata_props.extend(entries)
    return model


def strip(model: "onnx.ModelProto") -> None:
    """Remove bookkeeping, descriptions and paths from a model and everything in it."""
    for message in _messages(model):
        # torch writes stack traces: 643 absolute paths in one file, measured.
        for name in ("metadata_props", "doc_string"):
            if name in message.DESCRIPTOR.fields_by_name:
                message.ClearField(name)


def _messages(message: Any) -> Iterator[Any]:
    """Iterate over a protobuf message and all nested messages, except the weights' bytes."""
    yield message
    for kind, value in message.ListFields():
        if kind.message_type is None:
            continue
        for child in [value] if hasattr(value, "ListFields") else value:
            yield from _messages(child)


def check_module(module: nn.Module) -> None:
    """Reject a module in training mode, or with NaN or infinite weights.

    Raises:
        ModelFileError: With the first submodule in training mode (E430), or the weights (E407).
    """
    training = [name or "the module" for name, m in module.named_modules() if m.training]
    if training:
        raise ModelFileError(f"{training[0]} is in training mode", "call .eval() first", code="E430")
    state = {name: t for name, t in module.state_dict().items() if isinstance(t, Tensor)}
    # Export, the checker and ONNX Runtime all let NaN pass.
    broken = [name for name, t in state.items() if t.is_floating_point() and not bool(t.isfinite().all())]
    if broken:
        names = ", ".join(broken[:5]) + (" ..." if len(broken) > 5 else "")
        raise ModelFileError(f"NaN or inf in {names}", "go back to the last good artifact", code="E407")


def _example(module: nn.Module, input: Input) -> Tensor:
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    return torch.from_numpy(input.example()).to(device)


def convert(
    module: nn.Module,
    examples: tuple[Tensor, ...],
    opset: int = OPSET,
    free: Mapping[str, Mapping[int, str]] = MappingProxyType({INPUT: FREE}),
    *,
    outputs: Sequence[str] = (OUTPUT,),
) -> "onnx.ModelProto":
    """Convert a module to ONNX, unchecked and with torch's bookkeeping.

    Args:
        module: Module in evaluation mode.
        examples: Its inputs, `(B, ...)` each, B at least 2.
        opset: ONNX operator set.
        free: Names of the axes that stay free, by the name of each input.
        outputs: Names of the outputs.

    Raises:
        ModelFileError: If the module cannot be expressed (E426).
    """
    # The exporter prints to stdout, where a command's JSON goes.
    chatter = io.StringIO()
    quiet = (contextlib.redirect_stdout(chatter), contextlib.redirect_stderr(chatter), warnings.catch_warnings())
    with contextlib.ExitStack() as stack, torch.no_grad(), _replace_in_place(module):
        for context in quiet:
            stack.enter_context(context)
        # Of torch about its own deprecations, one for each export; a wrong graph is found by the gate.
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                module,
                examples,
                # torch's older exporter, by TorchScript, is deprecated.
                dynamo=True,
                verbose=False,
                opset_version=opset,
                input_names=list(free),
                output_names=list(outputs),
                dynamic_shapes=_shapes(module, free),
                # By default torch 2.15 writes the weights beside the file, even 6 MB; renamed, such a file is broken.
                external_data=False,
            )
        except Exception as error:  # torch's exporter raises types of its own, of onnxscript, and of the network
            cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ModelFileError(
                f"torch cannot export this network: {cause}",
                "`debug` shows where; replace the operator, or set another opset",
                code="E426",
            ) from error
    if program is None:
        raise ModelFileError("torch exported nothing", code="E426")
    model: onnx.ModelProto = program.model_proto
    return model


def _shapes(module: nn.Module, free: Mapping[str, Mapping[int, str]]) -> tuple[Any, ...]:
    """Return the dynamic axes of each input, nested as the module's signature requires."""
    each = tuple({axis: torch.export.Dim(name) for axis, name in axes.items()} for axes in free.values())
    return (each,) if getattr(module, "takes_any", False) else each


@contextlib.contextmanager
def _replace_in_place(module: nn.Module) -> Iterator[None]:
    """Make activations work out of place: torch decomposes in-place ones, a third of the export time."""
    eager = [m for m in module.modules() if getattr(m, "inplace", False) is True]
    for m in eager:
        m.inplace = False  # type: ignore[assignment]
    try:
        yield
    finally:
        for m in eager:
            m.inplace = True  # type: ignore[assignment]


def _check_graph(
    model: "onnx.ModelProto", axes: Sequence[Sequence[int | str]], opset: int, free: Mapping[str, Mapping[int, str]]
) -> None:
    check_operators(model, opset, free)
    for number, expected in enumerate(axes):
        shape = [d.dim_value or d.dim_param for d in model.graph.output[number].type.tensor_type.shape.dim]
        if shape != expected:
            text = f"the network gives {shape}, not {expected}"
            raise ModelFileError(text, "one output per class or value", code="E406")


def check_operators(model: "onnx.ModelProto", opset: int, free: Mapping[str, Mapping[int, str]]) -> None:
    """Name the free axes of a graph, and reject another operator set or NaN weights.

    Raises:
        ModelFileError: If operators are not ONNX's (E426), an axis is not free (E426), or a weight is NaN (E407).
    """
    written = {o.domain or "ai.onnx": o.version for o in model.opset_import}
    # Asked for 17, torch 2.15 prints that conversion failed, returns 18, and raises nothing.
    if written.get("ai.onnx") != opset:
        problem = f"asked for operator set {opset}, the exporter wrote {written.get('ai.onnx')}"
        raise ModelFileError(problem, "set another opset", code="E426")
    foreign = sorted({f"{n.domain}.{n.op_type}" for n in model.graph.node if n.domain not in ("", "ai.onnx")})
    if foreign:
        raise ModelFileError(f"operators outside ONNX: {', '.join(foreign)}", code="E426")
    for graph_input, axes in zip(model.graph.input, free.values(), strict=True):
        _name_axes(model, graph_input, axes)
    _check_weights(model)


def _check_weights(model: "onnx.ModelProto") -> None:
    """Reject NaN anywhere, and infinities in layers: folding may create them. Masks hold infinities on purpose."""
    import numpy as np
    from onnx import numpy_helper

    # Attention's masks are minus infinity on purpose.
    layers = {name for n in model.graph.node if n.op_type in ("Conv", "Gemm", "MatMul") for name in n.input}
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype.kind == "f" and (np.isnan(values).any() or (tensor.name in layers and np.isinf(values).any())):
            problem = f"NaN or inf in {tensor.name} as it was written"
            raise ModelFileError(
                problem, "a batch norm of nearly no variance? go back to the last artifact", code="E407"
            )


def _name_axes(model: "onnx.ModelProto", graph_input: "onnx.ValueInfoProto", names: Mapping[int, str]) -> None:
    """Rename the exporter's symbols of an input's free axes everywhere in the graph."""
    dims = graph_input.type.tensor_type.shape.dim
    symbols = {axis: dims[axis].dim_param for axis in names}
    for axis, name in names.items():
        # A network that reads its input's size (view, interpolate) fixes the axis without a word.
        if not symbols[axis]:
            raise ModelFileError(f"the exporter fixed the {name}", "the network must not depend on it", code="E426")
    new = {symbols[axis]: name for axis, name in names.items()}
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for side in value.type.tensor_type.shape.dim:
            if side.dim_param in new:
                side.dim_param = new[side.dim_param]
