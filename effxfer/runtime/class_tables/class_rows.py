"""The rows with which a file compares an example, where a caller gives classes in place of the file's own.

Shape legend: N examples, C classes, D numbers of a feature vector, E of a class embedding.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from effxfer.runtime.class_tables.stacking import lower
from effxfer.runtime.model_file.metadata import CLASS_EMBEDDINGS, PROTOTYPES, ModelError

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassRows:
    """Rows for classes that a caller gives; none leave the file its own.

    Attributes:
        tables: Rows by the name of the graph's initializer: prototypes `(C, D)`, or class embeddings `(C, E)`.
        lowered: By how much the logit of each class is lowered, `(C,)`; None for not at all.
    """

    tables: Mapping[str, Floats] = field(default_factory=dict)
    lowered: Floats | None = None

    def lower(self, outputs: Floats, *, probabilities: bool) -> Floats:
        """Lower logits `(N, C)`, or probabilities of which they are the logarithm."""
        return outputs if self.lowered is None else lower(outputs, self.lowered, probabilities=probabilities)


def prototype_rows(prototypes: Floats, labels: Sequence[str], length: int) -> ClassRows:
    """Return prototypes `(C, D)` as rows for the classes of C labels, where D is `length`.

    Raises:
        ModelError: If they have another shape (`E428`).
    """
    if prototypes.shape != (len(labels), length) or not len(labels):
        problem = f"{len(labels)} classes need prototypes of shape ({len(labels)}, {length})"
        raise ModelError(f"{problem}, not {prototypes.shape}", code="E428")
    return ClassRows(tables={PROTOTYPES: np.ascontiguousarray(prototypes, np.float32)})


def embedding_rows(
    table: Floats, labels: Sequence[str], length: int, *, trained: Collection[str], calibration: float
) -> ClassRows:
    """Return class embeddings `(C, E)` as rows for the classes of C labels, where E is `length`.

    Args:
        table: A row for each class.
        labels: C names.
        length: E.
        trained: Names of classes that the network was trained with: it prefers them to new ones.
        calibration: By how much their logits are lowered.

    Raises:
        ModelError: If the rows have another shape or are not finite, or if two classes have one name (`E428`).
    """
    if table.shape != (len(labels), length) or not len(labels) or len(set(labels)) < len(labels):
        problem = f"{len(labels)} classes of different names need a table of shape ({len(labels)}, {length})"
        raise ModelError(f"{problem}, not {table.shape}", "give a row of the same columns for each", code="E428")
    if not np.isfinite(table).all():
        raise ModelError("class embeddings hold NaN or infinity", "fill them in", code="E428")
    lowered = np.array([calibration if label in trained else 0.0 for label in labels], np.float32)
    return ClassRows(tables={CLASS_EMBEDDINGS: np.ascontiguousarray(table, np.float32)}, lowered=lowered)
