"""Read and write effxfer's entries in a file's ONNX metadata: input, output, origin.

A classifier of images has `labels` and `preprocess`, as the first versions wrote and read them. Other files have
`labels`, `input` and `output`: versions that would take their outputs for logits of classes find no `preprocess`, and
refuse them. The tokenizer of a text file lies beside it; the metadata hold its SHA-256.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from effxfer.runtime.inputs import Input, input_from_json, read_input_files
from effxfer.runtime.model_file import strict
from effxfer.runtime.outputs.base import Output
from effxfer.runtime.outputs.registry import output_from_json
from effxfer.runtime.outputs.single_label import SingleLabel
from effxfer.runtime.text.errors import TextError

PROTOTYPES, FEATURES = "prototypes", "features"
CLASS_EMBEDDINGS, CALIBRATION = "class_embeddings", "calibration"
# Inputs with a row for each class, which need not be given.
CLASS_TABLES = (PROTOTYPES, CLASS_EMBEDDINGS)
SEALS = FORMAT, SEAL, WEIGHTS = "effxfer.format", "effxfer.sha256", "effxfer.weights"
CONTRACT = LABELS, PREPROCESS, INPUT, OUTPUT = "labels", "preprocess", "input", "output"
RESERVED = (*SEALS, *CONTRACT, "key", "effxfer", "precision", "with_preprocessing")
LENGTHS, HF_INPUTS = "lengths", "hf_inputs"
HINT = "write it with `effxfer export`; other exporters record neither labels nor preprocessing"
NEWER = "install the effxfer that wrote it, or a newer one"


class ModelError(ValueError):
    """A file that cannot be used as a model.

    Args:
        problem: What is wrong with it, in one line.
        hint: What would work; empty if nothing would.
        code: `E404` changed since it was written, `E424` absent, damaged or refused by ONNX Runtime, `E427` does not
            run, `E428` without (usable) effxfer metadata, `E429` returns NaN or infinity; `E441` without its tokenizer,
            `E446` with that of another model.
    """

    exit_code = 4

    def __init__(self, problem: str, hint: str = "", *, code: str) -> None:
        self.problem, self.hint, self.code = problem, hint, code
        super().__init__(f"{code} {problem}")


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """Everything needed to run an exported file and to trace its origin.

    Attributes:
        input: Conversion of an example into the input.
        output: The kind of label, and the names of the columns.
        key: Key of the artifact that was exported.
        version: Version of the effxfer that wrote it.
        precision: `fp32`, or the name of the int8 recipe.
        with_preprocessing: The graph itself resizes, crops and scales: it takes decoded images and returns
            probabilities, or values in their unit.
        extra: Further entries by name.
    """

    input: Input
    output: Output
    key: str = ""
    version: str = ""
    precision: str = "fp32"
    with_preprocessing: bool = False
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the output's columns."""
        return self.output.classes

    @property
    def lengths(self) -> tuple[int, ...]:
        """Median and 95th percentile of the tokens of validation texts; empty where the file does not say so."""
        try:
            return tuple(strict.side(LENGTHS, length) for length in strict.read_json(self.extra[LENGTHS]))
        except (ValueError, TypeError, LookupError):
            return ()

    @property
    def calibration(self) -> float:
        """What the file's own classes are lowered by where new ones stand beside them; 0 where it does not say so."""
        try:
            return strict.numbers(CALIBRATION, [strict.read_json(self.extra[CALIBRATION])])[0]
        except (ValueError, TypeError, LookupError):
            return 0.0

    def to_properties(self) -> dict[str, str]:
        """Convert into strings for `metadata_props`; `from_properties` reads them."""
        return {
            **self.extra,
            LABELS: json.dumps(list(self.labels), ensure_ascii=False),
            **self._contract(),
            "key": self.key,
            "effxfer": self.version,
            "precision": self.precision,
            "with_preprocessing": json.dumps(self.with_preprocessing),
        }

    def _contract(self) -> dict[str, str]:
        if (self.input.kind, self.output.kind) == ("image", "single"):
            return {PREPROCESS: json.dumps(self.input.to_json(), sort_keys=True)}
        input, output = {**self.input.to_json(), "kind": self.input.kind}, self.output.to_json()
        return {
            INPUT: json.dumps(input, sort_keys=True),
            OUTPUT: json.dumps(output, ensure_ascii=False, sort_keys=True),
        }

    @staticmethod
    def stated_size(properties: Mapping[str, str]) -> int | None:
        """Return the input size that `metadata_props` state; None if it is absent or unusable."""
        try:
            raw = strict.read_json(next(text for key, text in properties.items() if key.endswith((PREPROCESS, INPUT))))
            return strict.side("size", raw["size"])
        except (StopIteration, ValueError, TypeError, LookupError):
            return None

    @classmethod
    def from_properties(cls, properties: Mapping[str, str], source: str, folder: Path) -> "Metadata":
        """Read `metadata_props`.

        Args:
            properties: Strings by name.
            source: Name of the file, for errors.
            folder: Folder of the file, in which its tokenizer is looked for.

        Raises:
            ModelError: If input or output are absent, unreadable or of an unknown kind (`E428`), or the tokenizer is
                absent (`E441`) or that of another model (`E446`).
        """
        if HF_INPUTS in properties:
            text = f"{source} has the inputs of Hugging Face, which a caller must fill in himself"
            raise ModelError(text, "open the file without `.hf` beside it, or feed it as its server does", code="E428")
        if not has_contract(properties):
            raise ModelError(f"{source} has no effxfer metadata", HINT, code="E428")
        try:
            output, input = _read_output(properties), _read_input(properties, folder)
        except TextError as error:
            raise ModelError(f"{source}: {error.problem}", error.hint, code=error.code) from None
        except ValueError as error:
            hint = NEWER if isinstance(error, strict.UnknownKindError) else HINT
            raise ModelError(f"{source} has unreadable effxfer metadata: {error}", hint, code="E428") from None
        return cls(
            input=input,
            output=output,
            key=properties.get("key", ""),
            version=properties.get("effxfer", ""),
            precision=properties.get("precision", "fp32"),
            with_preprocessing=properties.get("with_preprocessing") == "true",
            extra={k: v for k, v in properties.items() if k not in RESERVED},
        )


def has_contract(properties: Mapping[str, str]) -> bool:
    """Whether `metadata_props` name the input and the output of a file, so that effxfer wrote it."""
    return LABELS in properties and (PREPROCESS in properties or {INPUT, OUTPUT} <= properties.keys())


def _read_input(properties: Mapping[str, str], folder: Path) -> Input:
    raw = strict.read_json(properties.get(PREPROCESS) or properties[INPUT])
    is_text = isinstance(raw, Mapping) and raw.get("kind") == "text"
    return input_from_json(raw, read_input_files(folder) if is_text else {})


def _read_output(properties: Mapping[str, str]) -> Output:
    """Read the output; a file without one has single labels."""
    if OUTPUT in properties:
        return output_from_json(strict.read_json(properties[OUTPUT]))
    return SingleLabel(classes=strict.labels(strict.read_json(properties[LABELS])))
