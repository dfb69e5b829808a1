"""Child process of `vet.vet`: inspect one ONNX file and print the summary, without importing effxfer.

An error is printed as `{"error": [code, problem, hint]}`; the parent reports crashes and time-outs.
"""

import json
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before ONNX Runtime is imported: it reads this once
# onnx sets any key as an attribute of its reader (CVE-2026-34445).
EXTERNAL_KEYS = {"location", "offset", "length", "checksum"}
# ONNX's own and ONNX Runtime's: operators of others need a library, which is code.
DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc"}
# Two and four numbers share a byte.
HALF_BYTE, QUARTER_BYTE = ("INT4", "UINT4", "FLOAT4E2M1"), ("INT2", "UINT2")
OUT_OF_MEMORY = ("bad_alloc", "allocate memory", "bad allocation", "MemoryError", "out of memory")
TYPED_FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")
# These two are as in `runners` and `runtime.model_file.strict`, which this process does not import.
DEFAULT_SIDE = 224
MAX_REASON = 200
LARGEST_SIDE = 8192


class RefusedError(Exception):
    """The file is refused: code, problem, hint."""


def limit(memory: int, seconds: int, largest_file: int = 0) -> None:
    """Limit this process's address space, processor time, core dumps and file sizes, if the system can.

    0 `seconds` set no limit of processor time: with a limit, Linux reads that clock to a few milliseconds only, and
    permanently, so nothing could be timed.
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
    """Parse a model without loading external data."""
    import onnx

    try:
        model = onnx.load(file, load_external_data=False)
    except MemoryError:
        raise
    except Exception as error:  # protobuf's DecodeError has no public home
        raise RefusedError("E424", f"not an ONNX model: {_reason(error)}", "is it complete?") from None
    if not model.graph.node:
        raise RefusedError("E424", "no ONNX model, or one without operators", "is it complete?")
    return model


def walk_messages(message: Any) -> Iterator[Any]:
    """Yield a protobuf message and all nested messages."""
    yield message
    for kind, value in message.ListFields():
        if kind.message_type is not None:
            for child in [value] if hasattr(value, "ListFields") else value:
                yield from walk_messages(child)


def check_text(model: Any) -> None:
    """Refuse text that is not UTF-8: protobuf returns it as bytes, which other code does not expect."""
    for message in walk_messages(model):
        for kind, value in message.ListFields():
            if kind.type == kind.TYPE_STRING and any(
                isinstance(one, bytes) for one in ([value] if isinstance(value, str | bytes) else value)
            ):
                raise RefusedError("E424", f"not an ONNX model: {kind.name} is not text", "get an intact copy")


def check_operators(model: Any) -> None:
    """Refuse operators of unknown domains."""
    functions = {(f.domain, f.name) for f in model.functions}
    nodes = [m for m in walk_messages(model) if m.DESCRIPTOR.name == "NodeProto"]
    unknown = {(n.domain, n.op_type) for n in nodes if n.domain not in DOMAINS} - functions
    if unknown:
        names = ", ".join(sorted(f"{domain}.{name}" for domain, name in unknown)[:10])
        raise RefusedError("E426", f"operators of unknown domains: {names}", "export it with operators of ONNX alone")


def check_tensor(tensor: Any, folder: Path) -> int:
    """Refuse a tensor whose data are misplaced, missing or of wrong length; return the bytes of external data."""
    import onnx

    if any(size < 0 for size in tensor.dims):
        raise RefusedError("E422", f"the tensor {tensor.name!r} has a negative side", "export it again")
    need = _bytes_of(tensor)
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return check_external_data(tensor, folder, need)
    if need is None:
        return 0
    actual, has_typed_data = len(tensor.raw_data), any(len(getattr(tensor, field)) for field in TYPED_FIELDS)
    if actual != need and (actual or tensor.HasField("raw_data") or not has_typed_data):
        raise RefusedError(
            "E422", f"the tensor {tensor.name!r} needs {need} bytes, the file holds {actual}", "export it again"
        )
    return 0


def check_external_data(tensor: Any, folder: Path, need: int | None) -> int:
    """Refuse external data in a file that is not beside the model, incomplete, or a link."""
    fields = {entry.key: entry.value for entry in tensor.external_data}
    if set(fields) - EXTERNAL_KEYS:
        unknown = ", ".join(sorted(set(fields) - EXTERNAL_KEYS))
        raise RefusedError("E421", f"the tensor {tensor.name!r} has unknown external data fields: {unknown}"[:300], "")
    data_file = _external_file(fields.get("location", ""), folder)
    start, length = (_whole_number(fields, key, tensor.name) for key in ("offset", "length"))
    length = data_file.stat().st_size - start if "length" not in fields else length
    if start + length > data_file.stat().st_size or length < 0 or (need is not None and length != need):
        text = f"the tensor {tensor.name!r} needs {need} bytes from {start} on, {data_file.name!r} holds"
        raise RefusedError(
            "E422", f"{text} {data_file.stat().st_size} in all and it claims {length}", "copy the file again"
        )
    return length


def _external_file(location: str, folder: Path) -> Path:
    file, hint = folder / location, "keep both files in one folder, as plain files"
    if not location or "\\" in location or "\0" in location or Path(location).name != location or location == "..":
        raise RefusedError("E420", f"it refers to weights in {location!r}, which is not a file beside it"[:300], hint)
    if file.is_symlink():
        raise RefusedError("E420", f"its weights {location!r} are a link", hint)
    if not file.is_file():
        raise RefusedError("E423", f"its weights {location!r} are missing", f"put {location!r} beside it")
    # ONNX Runtime follows hard links, so that any file of the same disk could be read as weights.
    if file.stat().st_nlink > 1:
        raise RefusedError("E420", f"its weights {location!r} are a hard link to another file", hint)
    return file


def _whole_number(fields: dict[str, str], key: str, name: str) -> int:
    text = fields.get(key, "0")
    # 18 digits fit int64. isdecimal alone takes digits of other scripts.
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise RefusedError("E422", f"the tensor {name!r} has the {key} {text[:50]!r}", "export it again")
    return int(text)


def _bytes_of(tensor: Any) -> int | None:
    """Return the size of a tensor's data in bytes; None for strings."""
    import onnx

    kinds = onnx.TensorProto.DataType
    if tensor.data_type not in kinds.values() or tensor.data_type == onnx.TensorProto.UNDEFINED:
        raise RefusedError("E424", f"the tensor {tensor.name!r} has no known type", "export it again")
    count, kind = math.prod(map(int, tensor.dims)), str(kinds.Name(tensor.data_type))
    if kind == "STRING":
        return None
    if kind in HALF_BYTE or kind in QUARTER_BYTE:
        return -(-count // (2 if kind in HALF_BYTE else 4))
    return count * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def check_numbers(tensor: Any, folder: Path) -> None:
    """Refuse weights with NaN; infinities are allowed, because attention masks use them."""
    import numpy as np
    import onnx

    if tensor.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16):
        values = onnx.numpy_helper.to_array(tensor, base_dir=str(folder))
        if np.isnan(values).any():
            raise RefusedError("E425", f"NaN among the weights {tensor.name!r}", "go back to the last good file")


def run(file: Path, size: int | None) -> dict[str, Any]:
    """Open the model and run it once on zeros; free axes are 1 for the batch and `size` for others."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # Only what is fatal: a foreign file writes its names into warnings.
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    free = size or _stated_size(metadata)
    feed = {}
    for tensor in session.get_inputs():
        shape = [n if isinstance(n, int) and n > 0 else (free if axis else 1) for axis, n in enumerate(tensor.shape)]
        feed[tensor.name] = np.zeros(shape, _dtype(tensor.type))
    session.run(None, feed)
    described = {
        side: {one.name: [one.type, [n if isinstance(n, int) else str(n) for n in one.shape]] for one in tensors}
        for side, tensors in (("inputs", session.get_inputs()), ("outputs", session.get_outputs()))
    }
    return {**described, "metadata": metadata}


def _stated_size(metadata: dict[str, str]) -> int:
    try:
        size = json.loads(metadata.get("preprocess") or metadata["input"])["size"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return DEFAULT_SIDE
    return size if type(size) is int and 0 < size <= LARGEST_SIDE else DEFAULT_SIDE


def _dtype(kind: str) -> str:
    word = kind.removeprefix("tensor(").removesuffix(")")
    numpy_names = {"float": "float32", "double": "float64", "string": "object"}
    if "(" in word:
        raise RefusedError("E426", f"an input is a {kind}, not a tensor", "only tensors can be fed")
    return numpy_names.get(word, word)


def check_structure(file: Path) -> tuple[Any, list[Any], int]:
    """Parse a file and check its text, operators and tensors; return model, tensors and bytes of external data."""
    model = read(file)
    check_text(model)
    check_operators(model)
    tensors = [m for m in walk_messages(model) if m.DESCRIPTOR.name == "TensorProto"]
    return model, tensors, sum(check_tensor(tensor, file.parent) for tensor in tensors)


def inspect_model(file: Path, memory: int, seconds: int, size: int | None) -> dict[str, Any]:
    """Check a model, its external data before anything reads them, and run it once."""
    # Before the first byte of the file is read.
    limit(memory, seconds)
    model, tensors, outside = check_structure(file)
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
    # The session needs the memory.
    del model, tensors
    try:
        return {**facts, **run(file, size)}
    except (RefusedError, MemoryError):
        raise
    except Exception as error:  # ONNX Runtime raises its own types, ValueError and RuntimeError
        import onnxruntime

        problem = f"ONNX Runtime {onnxruntime.__version__} refuses it ({' '.join(wants.split())}): {_reason(error)}"
        raise RefusedError(_error_code(error), problem, "") from None


def _error_code(error: Exception) -> str:
    if any(word in f"{type(error).__name__} {error}" for word in OUT_OF_MEMORY):
        raise MemoryError
    unsupported = ("NOT_IMPLEMENTED", "NotImplemented", "is under development", "not a registered", "No Op registered")
    return "E426" if any(word in f"{type(error).__name__} {error}" for word in unsupported) else "E427"


def _reason(error: Exception) -> str:
    """Return an error in one line; the end of a long one, where ONNX Runtime states the cause."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= MAX_REASON else f"... {text[-MAX_REASON:]}"


def main() -> None:
    """Run the request in the first argument."""
    request: dict[str, Any] = json.loads(sys.argv[1])
    try:
        response = inspect_model(Path(request["file"]), request["memory"], request["seconds"], request["size"])
    except RefusedError as error:
        response = {"error": list(error.args)}
    except MemoryError:
        response = {"error": ["E427", f"opening it takes more than {request['memory'] / 1e9:.1f} GB of memory", ""]}
    except RecursionError:
        response = {"error": ["E424", "not an ONNX model: nested too deeply", ""]}
    sys.stdout.write("\n" + json.dumps(response) + "\n")


if __name__ == "__main__":
    main()
