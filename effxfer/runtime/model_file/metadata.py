"""Read and write effxfer's entries in a file's ONNX metadata: labels, preprocessing, origin."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from effxfer.runtime.inputs import Input, input_from_json
from effxfer.runtime.model_file import strict

PROTOTYPES, FEATURES = "prototypes", "features"
SEALS = FORMAT, SEAL, WEIGHTS = "effxfer.format", "effxfer.sha256", "effxfer.weights"
RESERVED = (*SEALS, "labels", "preprocess", "key", "effxfer", "precision", "with_preprocessing")


class ModelError(ValueError):
    """A file that cannot be used as a model.

    Args:
        problem: What is wrong with it, in one line.
        hint: What would work; empty if nothing would.
        code: `E404` changed since it was written, `E424` absent, damaged or refused by ONNX Runtime, `E427` does not
            run, `E428` without (usable) effxfer metadata, `E429` returns NaN or infinity.
    """

    exit_code = 4

    def __init__(self, problem: str, hint: str = "", *, code: str) -> None:
        self.problem, self.hint, self.code = problem, hint, code
        super().__init__(f"{code} {problem}")


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """Everything needed to run an exported file and to trace its origin.

    Attributes:
        labels: Class names, in the order of the outputs.
        input: Conversion of an image into the input.
        key: Key of the artifact that was exported.
        version: Version of the effxfer that wrote it.
        precision: `fp32`, or the name of the int8 recipe.
        with_preprocessing: The graph itself resizes, crops and scales: it takes decoded images and returns
            probabilities.
        extra: Further entries by name.
    """

    labels: tuple[str, ...]
    input: Input
    key: str = ""
    version: str = ""
    precision: str = "fp32"
    with_preprocessing: bool = False
    extra: Mapping[str, str] = field(default_factory=dict)

    def to_properties(self) -> dict[str, str]:
        """Convert into strings for `metadata_props`; `from_properties` reads them."""
        return {
            **self.extra,
            "labels": json.dumps(list(self.labels), ensure_ascii=False),
            "preprocess": json.dumps(self.input.to_json(), sort_keys=True),
            "key": self.key,
            "effxfer": self.version,
            "precision": self.precision,
            "with_preprocessing": json.dumps(self.with_preprocessing),
        }

    @staticmethod
    def stated_size(properties: Mapping[str, str]) -> int | None:
        """Return the input size that `metadata_props` state; None if it is absent or unusable."""
        try:
            raw = strict.read_json(next(text for key, text in properties.items() if key.endswith("preprocess")))
            return strict.side("size", raw["size"])
        except (StopIteration, ValueError, TypeError, LookupError):
            return None

    @classmethod
    def from_properties(cls, properties: Mapping[str, str], source: str) -> "Metadata":
        """Read `metadata_props`.

        Args:
            properties: Strings by name.
            source: Name of the file, for errors.

        Raises:
            ModelError: If labels or preprocessing are absent or unreadable.
        """
        hint = "write it with `effxfer export`; other exporters record neither labels nor preprocessing"
        if "labels" not in properties or "preprocess" not in properties:
            raise ModelError(f"{source} has no effxfer metadata", hint, code="E428")
        try:
            labels = strict.labels(strict.read_json(properties["labels"]))
            input = input_from_json(strict.read_json(properties["preprocess"]))
        except ValueError as error:
            raise ModelError(f"{source} has unreadable effxfer metadata: {error}", hint, code="E428") from None
        return cls(
            labels=labels,
            input=input,
            key=properties.get("key", ""),
            version=properties.get("effxfer", ""),
            precision=properties.get("precision", "fp32"),
            with_preprocessing=properties.get("with_preprocessing") == "true",
            extra={k: v for k, v in properties.items() if k not in RESERVED},
        )
