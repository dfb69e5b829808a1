"""The process that `foreign.vet` starts: imports nothing of effxfer, examines one ONNX file, prints what it found.

What is wrong comes out as `{"error": [code, problem, hint]}`; a crash, a hang or hunger is the parent's to name.
"""

import json
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before ONNX Runtime is imported: it reads this once
KEYS = {"location", "offset", "length", "checksum"}
DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc"}
HALF_BYTE, QUARTER_BYTE = ("INT4", "UINT4", "FLOAT4E2M1"), ("INT2", "UINT2")
HUNGRY = ("bad_alloc", "allocate memory", "bad allocation", "MemoryError", "out of memory")
TYPED = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")
FREE = 224
LONGEST = 200
LARGEST_SIDE = 8192


class Refused(Exception):  # noqa: N818
    """Something is wrong with the file: code, problem, hint."""


def limit(memory: int, seconds: int, largest_file: int = 0) -> None:
    """Bound this process's address space, processor time, core dumps and files, where the system knows how.

    No `seconds` leave processor time unbounded: under a bound Linux reads its clock to a few milliseconds only, and
    for good, so that nothing can be timed.
    """
    try:
        import resource
    except ImportError:
        return
    bounds = [(resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, largest_file), (resource.RLIMIT_AS, memory)]
    for kind, value in [*bounds, *([(resource.RLIMIT_CPU, seconds)] if seconds else [])]:
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (value if hard < 0 else min(value, hard), hard))


def read(file: Path) -> Any:
    """Parse a model, without following it to other files."""
    import onnx

    try:
        model = onnx.load(file, load_external_data=False)
    except MemoryError:
        raise
    except Exception as error:  # protobuf's DecodeError has no public home
        raise Refused("E424", f"not an ONNX model: {_reason(error)}", "is it complete?") from None
    if not model.graph.node:
        raise Refused("E424", "no ONNX model, or one without operators", "is it complete?")
    return model


def messages(message: Any) -> Iterator[Any]:
    """Walk a protobuf message and all messages inside it."""
    yield message
    for kind, value in message.ListFields():
        if kind.message_type is not None:
            for child in [value] if hasattr(value, "ListFields") else value:
                yield from messages(child)


def check_text(model: Any) -> None:
    """Refuse text that is not UTF-8: protobuf gives it as bytes, which nobody expects."""
    for message in messages(model):
        for kind, value in message.ListFields():
            if kind.type == kind.TYPE_STRING and any(
                isinstance(one, bytes) for one in ([value] if isinstance(value, str | bytes) else value)
            ):
                raise Refused("E424", f"not an ONNX model: {kind.name} is not text", "get an intact copy")


def check_operators(model: Any) -> None:
    """Refuse operators that nobody but their author can run."""
    own = {(f.domain, f.name) for f in model.functions}
    nodes = [m for m in messages(model) if m.DESCRIPTOR.name == "NodeProto"]
    strange = {(n.domain, n.op_type) for n in nodes if n.domain not in DOMAINS} - own
    if strange:
        names = ", ".join(sorted(f"{domain}.{name}" for domain, name in strange)[:10])
        raise Refused("E426", f"operators of unknown domains: {names}", "export it with operators of ONNX alone")


def check_tensor(tensor: Any, folder: Path) -> int:
    """Refuse a tensor whose data are elsewhere, missing or of another length; give the bytes of its outside data."""
    import onnx

    if any(size < 0 for size in tensor.dims):
        raise Refused("E422", f"the tensor {tensor.name!r} has a negative side", "export it again")
    need = _bytes_of(tensor)
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return check_outside(tensor, folder, need)
    if need is None:
        return 0
    found, typed = len(tensor.raw_data), any(len(getattr(tensor, field)) for field in TYPED)
    if found != need and (found or tensor.HasField("raw_data") or not typed):
        raise Refused(
            "E422", f"the tensor {tensor.name!r} needs {need} bytes, the file holds {found}", "export it again"
        )
    return 0


def check_outside(tensor: Any, folder: Path, need: int | None) -> int:
    """Refuse data in a file that is not beside the model, not whole, or not the file itself."""
    given = {entry.key: entry.value for entry in tensor.external_data}
    if set(given) - KEYS:
        strange = ", ".join(sorted(set(given) - KEYS))
        raise Refused("E421", f"the tensor {tensor.name!r} has unknown external data fields: {strange}"[:300], "")
    place = _place(given.get("location", ""), folder)
    start, length = (_whole_number(given, key, tensor.name) for key in ("offset", "length"))
    length = place.stat().st_size - start if "length" not in given else length
    if start + length > place.stat().st_size or length < 0 or (need is not None and length != need):
        text = f"the tensor {tensor.name!r} wants {need} bytes from {start} on, {place.name!r} holds"
        raise Refused("E422", f"{text} {place.stat().st_size} in all and it claims {length}", "copy the file again")
    return length


def _place(location: str, folder: Path) -> Path:
    place, hint = folder / location, "keep both files in one folder, as plain files"
    if not location or "\\" in location or "\0" in location or Path(location).name != location or location == "..":
        raise Refused("E420", f"it wants weights from {location!r}, which is not a file beside it"[:300], hint)
    if place.is_symlink():
        raise Refused("E420", f"its weights {location!r} are a link", hint)
    if not place.is_file():
        raise Refused("E423", f"its weights {location!r} are missing", f"put {location!r} beside it")
    if place.stat().st_nlink > 1:
        raise Refused("E420", f"its weights {location!r} are a hard link to another file", hint)
    return place


def _whole_number(given: dict[str, str], key: str, name: str) -> int:
    text = given.get(key, "0")
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise Refused("E422", f"the tensor {name!r} has the {key} {text[:50]!r}", "export it again")
    return int(text)


def _bytes_of(tensor: Any) -> int | None:
    """Give the bytes that a tensor's data take; None for texts."""
    import onnx

    kinds = onnx.TensorProto.DataType
    if tensor.data_type not in kinds.values() or tensor.data_type == onnx.TensorProto.UNDEFINED:
        raise Refused("E424", f"the tensor {tensor.name!r} has no known type", "export it again")
    count, kind = math.prod(map(int, tensor.dims)), str(kinds.Name(tensor.data_type))
    if kind == "STRING":
        return None
    if kind in HALF_BYTE or kind in QUARTER_BYTE:
        return -(-count // (2 if kind in HALF_BYTE else 4))
    return count * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def check_numbers(tensor: Any, folder: Path) -> None:
    """Refuse weights with NaN among them; infinities are left, masks hold them on purpose."""
    import numpy as np
    import onnx

    if tensor.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16):
        values = onnx.numpy_helper.to_array(tensor, base_dir=str(folder))
        if np.isnan(values).any():
            raise Refused("E425", f"NaN among the weights {tensor.name!r}", "go back to the last good file")


def run(file: Path, size: int | None) -> dict[str, Any]:
    """Open the model and run it once on zeros; free sides are 1 in front, `size` behind."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    about = session.get_modelmeta().custom_metadata_map
    free = size or _stated(about)
    feed = {}
    for put in session.get_inputs():
        shape = [n if isinstance(n, int) and n > 0 else (free if axis else 1) for axis, n in enumerate(put.shape)]
        feed[put.name] = np.zeros(shape, _dtype(put.type))
    session.run(None, feed)
    described = {
        side: {one.name: [one.type, [n if isinstance(n, int) else str(n) for n in one.shape]] for one in found}
        for side, found in (("inputs", session.get_inputs()), ("outputs", session.get_outputs()))
    }
    return {**described, "metadata": about}


def _stated(about: dict[str, str]) -> int:
    try:
        size = json.loads(about["preprocess"])["size"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return FREE
    return size if type(size) is int and 0 < size <= LARGEST_SIDE else FREE


def _dtype(kind: str) -> str:
    word = kind.removeprefix("tensor(").removesuffix(")")
    known = {"float": "float32", "double": "float64", "string": "object"}
    if "(" in word:
        raise Refused("E426", f"an input is a {kind}, not a tensor", "only tensors can be fed")
    return known.get(word, word)


def look(file: Path) -> tuple[Any, list[Any], int]:
    """Parse a file and check its text, operators and tensors; give model, tensors and the bytes of outside data."""
    model = read(file)
    check_text(model)
    check_operators(model)
    tensors = [m for m in messages(model) if m.DESCRIPTOR.name == "TensorProto"]
    return model, tensors, sum(check_tensor(tensor, file.parent) for tensor in tensors)


def examine(file: Path, memory: int, seconds: int, size: int | None) -> dict[str, Any]:
    """Look at everything, the outside data before anything reads them, and run the model once."""
    limit(memory, seconds)
    model, tensors, outside = look(file)
    limit(memory + 4 * outside, seconds)
    for tensor in tensors:
        check_numbers(tensor, file.parent)
    facts = {
        "opsets": {o.domain or "ai.onnx": o.version for o in model.opset_import},
        "operators": len(model.graph.node),
        "producer": f"{model.producer_name} {model.producer_version}".strip(),
        "outside_bytes": outside,
    }
    wants = f"IR version {model.ir_version}, " + ", ".join(f"opset {o.domain} {o.version}" for o in model.opset_import)
    del model, tensors
    try:
        return {**facts, **run(file, size)}
    except (Refused, MemoryError):
        raise
    except Exception as error:  # ONNX Runtime raises its own types, ValueError and RuntimeError
        import onnxruntime

        problem = f"ONNX Runtime {onnxruntime.__version__} refuses it ({' '.join(wants.split())}): {_reason(error)}"
        raise Refused(_kind(error), problem, "") from None


def _kind(error: Exception) -> str:
    if any(word in f"{type(error).__name__} {error}" for word in HUNGRY):
        raise MemoryError
    known = ("NOT_IMPLEMENTED", "NotImplemented", "is under development", "not a registered", "No Op registered")
    return "E426" if any(word in f"{type(error).__name__} {error}" for word in known) else "E427"


def _reason(error: Exception) -> str:
    """Give an error in one line; of a long one the end, where ONNX Runtime says what was wrong."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= LONGEST else f"... {text[-LONGEST:]}"


def main() -> None:
    """Answer the question in the first argument."""
    ask: dict[str, Any] = json.loads(sys.argv[1])
    try:
        found = examine(Path(ask["file"]), ask["memory"], ask["seconds"], ask["size"])
    except Refused as error:
        found = {"error": list(error.args)}
    except MemoryError:
        found = {"error": ["E427", f"opening it takes more than {ask['memory'] / 1e9:.1f} GB of memory", ""]}
    except RecursionError:
        found = {"error": ["E424", "not an ONNX model: nested too deeply", ""]}
    sys.stdout.write("\n" + json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
