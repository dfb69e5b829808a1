"""An exported file in ONNX Runtime or OpenVINO: opened, compared with its own metadata, and run."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effxfer.runtime.model_file.metadata import CLASS_EMBEDDINGS, CLASS_TABLES, PROTOTYPES, Metadata, ModelError
from effxfer.runtime.model_file.seal import is_sealed, read_model
from effxfer.runtime.model_file.wire import versions
from effxfer.runtime.multi_task.task_outputs import TaskOutputs
from effxfer.runtime.openvino.openvino_session import OpenVinoSession, openvino_version
from effxfer.runtime.openvino.openvino_session import error_summary as openvino_summary
from effxfer.runtime.outputs.base import Output
from effxfer.runtime.session import (
    ONNXRUNTIME,
    OPENVINO,
    RUNTIMES,
    WEIGHTS_FOLDER,
    available_providers,
    error_summary,
    open_session,
    ort_version,
    session_options,
)
from effxfer.runtime.threads import usable_cores

IDS = "tensor(int64)"
FREE = "length"  # of texts, where outputs are of their tokens


class CheckedSession:
    """The session of an exported file whose inputs and outputs are those that its metadata names.

    Args:
        path: The `.onnx` file.
        threads: As for `Model`.
        providers: As for `Model`.
        options: As for `Model`.
        runtime: As for `Model`.

    Attributes:
        path: The file.
        sealed: Whether its content is what was exported.
        metadata: Its input and output.
        session: The session of ONNX Runtime, or of OpenVINO with the same methods.
        input_name: Name of the graph's input.

    Raises:
        ModelError: If the file is absent, damaged, refused by the runtime, or not written by effxfer, or if none of the
            providers is available.
    """

    def __init__(
        self, path: Path, *, threads: int, providers: Sequence[str], options: Any, runtime: str = ONNXRUNTIME
    ) -> None:
        if runtime not in RUNTIMES:
            raise ModelError(f"there is no runtime {runtime!r}", f"it is {' or '.join(RUNTIMES)}", code="E424")
        content = read_model(path)
        self.path, self.runtime, self.sealed = path, runtime, is_sealed(content, path)
        if runtime == OPENVINO:
            self.session = OpenVinoSession(path, content, min(threads, os.cpu_count() or 1))
        else:
            self.session = _open(path, content, threads, providers, options)
        properties = self.session.get_modelmeta().custom_metadata_map
        self.metadata = Metadata.from_properties(properties, f"the model {path}", path.parent)
        graph_input = self.session.get_inputs()[0]
        self.input_name = str(graph_input.name)
        self._outputs = _outputs_for(self.session, self.metadata, path)
        _check_input(graph_input, self.metadata, path)

    @property
    def runs_in(self) -> str:
        """Name and version of the runtime."""
        return openvino_version() if self.runtime == OPENVINO else ort_version()

    def _summary(self, error: Exception) -> str:
        return openvino_summary(error) if self.runtime == OPENVINO else error_summary(error)

    @property
    def takes_prototypes(self) -> bool:
        """Whether the file's classes can be replaced by other prototypes."""
        return PROTOTYPES in (held.name for held in self.session.get_overridable_initializers())

    @property
    def embedding_length(self) -> int:
        """Numbers of each class, of a file that takes class embeddings; 0 for others."""
        shapes = {held.name: held.shape for held in self.session.get_overridable_initializers()}
        return int(shapes[CLASS_EMBEDDINGS][1]) if CLASS_EMBEDDINGS in shapes else 0

    @property
    def prototype_length(self) -> int:
        """Numbers in a prototype, of a file that takes them."""
        shapes = {held.name: held.shape for held in self.session.get_overridable_initializers()}
        length: int = shapes[PROTOTYPES][1]
        return length

    def run(self, feed: NDArray[Any], tables: Mapping[str, NDArray[Any]], output: str = "") -> NDArray[np.float32]:
        """Run the graph.

        Args:
            feed: Its input.
            tables: Rows of other classes, by the initializer's name; empty for the file's own.
            output: Name of the output to return; empty for the first one.

        Raises:
            ModelError: If the graph does not run (`E427`).
        """
        feeds = {self.input_name: feed, **tables}
        try:
            results: list[NDArray[np.float32]] = self.session.run([output] if output else self._outputs, feeds)
        except Exception as error:  # runtimes raise their own types, ValueError and RuntimeError
            text = f"{self.runs_in} cannot run {self.path} on {feed.dtype} {feed.shape}: {self._summary(error)}"
            raise ModelError(text, "export it again", code="E427") from None
        return results[0] if len(results) == 1 else join_tasks(self.metadata.output, results, self.path)

    def check(self, outputs: NDArray[np.float32], names: Sequence[str], classes: int) -> NDArray[np.float32]:
        """Return the outputs for named examples if they are finite numbers, one for each class, or for each position.

        Raises:
            ModelError: If they have another shape or type (`E428`), or hold NaN or infinity (`E429`).
        """
        hint = "export it again, from a network that was checked"
        positions = outputs.shape[1:2] if self.metadata.output.per == "position" else ()
        expected = (len(names), *positions, classes)
        if getattr(outputs, "shape", None) != expected or outputs.dtype.kind != "f":
            problem = f"{self.path} returns {_describe(outputs)} for {names[0]}, not float {expected}"
            raise ModelError(problem, hint, code="E428")
        for name, row in zip(names, outputs, strict=True):
            if not np.isfinite(row).all():
                raise ModelError(f"{self.path} returns NaN or infinity for {name}", hint, code="E429")
        return outputs


def _describe(outputs: Any) -> str:
    return f"{outputs.dtype} {outputs.shape}" if isinstance(outputs, np.ndarray) else f"a {type(outputs).__name__}"


def _open(path: Path, content: bytes, threads: int, providers: Sequence[str], options: Any) -> Any:
    options = options or session_options()
    # At most one per core: ONNX Runtime would start as many as it is told, and each spins.
    options.intra_op_num_threads = min(threads, os.cpu_count() or 1) or options.intra_op_num_threads or usable_cores()
    options.add_session_config_entry(WEIGHTS_FOLDER, str(path.parent))
    usable = [name for name in providers if name in available_providers()]
    if not usable:  # ONNX Runtime would silently use the CPU instead
        available = ", ".join(available_providers())
        raise ModelError(
            f"this ONNX Runtime has no {', '.join(providers) or 'provider'}", f"it has {available}", code="E424"
        )
    try:
        return open_session(content, options, usable)
    except Exception as error:  # ONNX Runtime raises its own types, ValueError and RuntimeError
        problem = f"{ort_version()} refuses {path} ({versions(content) or 'no ONNX model'}): {error_summary(error)}"
        raise ModelError(problem, "export it again, or install an ONNX Runtime that takes it", code="E424") from None


def join_tasks(output: Output, results: Sequence[NDArray[np.float32]], path: Path) -> NDArray[np.float32]:
    """Join the outputs of several tasks side by side, `(N, C)`; where one tags words `(N, length, C)`.

    Raises:
        ModelError: If one of them has another shape than its task (`E428`).
    """
    assert isinstance(output, TaskOutputs)
    tasks = list(zip(results, output.outputs.values(), strict=True))
    lengths = {result.shape[1] for result, each in tasks if each.per == "position" and result.ndim == 3}
    free = tuple(lengths)[:1]
    shapes = [(*(free if each.per == "position" else ()), each.width) for each in output.outputs.values()]
    if len(lengths) > 1 or [result.shape[1:] for result in results] != shapes:
        widths = [each.width for each in output.outputs.values()]
        problem = f"{path} returns {[result.shape for result in results]}, its tasks have {widths} columns"
        raise ModelError(problem, "export it again", code="E428")
    if free:
        spread = (len(results[0]), *free)
        results = [r if r.ndim == 3 else np.broadcast_to(r[:, None], (*spread, r.shape[1])) for r in results]
    return np.concatenate(results, -1)


def _outputs_for(session: Any, metadata: Metadata, path: Path) -> list[str]:
    """Return the outputs to fetch: the first one, or that of each task.

    Raises:
        ModelError: If they are not those that the metadata name (`E428`).
    """
    if not isinstance(metadata.output, TaskOutputs):
        return [_output_for(session, metadata, path)]
    shapes = {output.name: _shape(output) for output in session.get_outputs()}
    expected_shapes = {
        name: [*([FREE] if output.per == "position" else []), output.width]
        for name, output in metadata.output.outputs.items()
    }
    if shapes != expected_shapes:
        raise ModelError(
            f"{path} returns {shapes}, its metadata names {expected_shapes}", "export it again", code="E428"
        )
    return list(expected_shapes)


def _shape(output: Any) -> list[Any]:
    """Return the shape of an output behind its batch; the first of two axes is free, whatever it is called."""
    axes = list(output.shape[1:])
    return [FREE, *axes[1:]] if len(axes) == 2 and not isinstance(axes[0], int) else axes


def _output_for(session: Any, metadata: Metadata, path: Path) -> str:
    output, axes = session.get_outputs()[0], 2 if metadata.output.per == "example" else 3
    free = any(initializer.name in CLASS_TABLES for initializer in session.get_overridable_initializers())
    if len(output.shape) != axes or (output.shape[-1] != len(metadata.labels) and not free):
        problem = f"{path} returns {output.shape}, its metadata names {len(metadata.labels)} labels"
        raise ModelError(problem, "export it again", code="E428")
    return str(output.name)


def _check_input(graph_input: Any, metadata: Metadata, path: Path) -> None:
    kind = metadata.input.kind
    is_text = kind == "text"
    fits = (graph_input.type == "tensor(uint8)") == (metadata.with_preprocessing and not is_text)
    fits &= is_text == (graph_input.type == IDS and len(graph_input.shape) == 2)
    fits &= kind != "vector" or [*graph_input.shape[1:]] == [metadata.input.size]
    if not fits:
        problem = f"{path} takes {graph_input.type} {graph_input.shape}, which its metadata contradicts"
        raise ModelError(problem, "export it again", code="E428")
