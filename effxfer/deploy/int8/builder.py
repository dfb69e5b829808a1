"""Makes int8 candidates of one float file: named, with its metadata, and vetoed for the CPUs that they are for."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from effxfer.deploy.export.external_data import write_sealed
from effxfer.deploy.export.onnx import load, read_metadata, strip, write_metadata
from effxfer.deploy.export.opset import left_behind
from effxfer.deploy.export.parity import open_model
from effxfer.deploy.export.prototypes import from_prototypes
from effxfer.deploy.graph.graph import Graph
from effxfer.deploy.int8.candidate import make_candidate, suitable
from effxfer.deploy.int8.evaluation import CandidateResult
from effxfer.deploy.int8.static import Feeds, matching, prepare
from effxfer.deploy.int8.target_policy import TargetPolicy
from effxfer.deploy.settings import RECIPES, Recipe
from effxfer.errors import ModelFileError
from effxfer.progress import bar

if TYPE_CHECKING:
    import onnx


def feeds_of(fp32: Path, pixels: NDArray[Any]) -> Feeds:
    """Put images into the form that a file takes: uint8 pixels by its own preprocessing, other arrays as they are."""
    if pixels.dtype != np.uint8:
        return Feeds(name=load(fp32).graph.input[0].name, pixels=pixels, preprocess=None)
    model = open_model(fp32, 1)
    return Feeds(name=model.input_name, pixels=pixels, preprocess=model.preprocess)


class CandidateBuilder:
    """Makes candidates of one float file, in a scratch folder."""

    def __init__(self, fp32: Path, folder: Path, feeds: Feeds, policy: TargetPolicy) -> None:
        self.fp32, self.folder, self.feeds, self.policy = fp32, folder, feeds, policy
        self.prepared = prepare(fp32, folder / "prepared.onnx")
        self.left = from_prototypes(load(self.prepared).graph)

    def leave(self, layers: Sequence[str], operators: Sequence[str]) -> None:
        """Leave layers and operators in float32 in all candidates."""
        self.left += matching(load(self.prepared).graph, layers, operators)

    def suitable(self, recipes: Sequence[str]) -> tuple[str, ...]:
        """Replace `auto`."""
        return suitable(load(self.prepared).graph, recipes)

    def candidates(self, recipes: Sequence[str]) -> list[CandidateResult]:
        """Make a candidate by each recipe."""
        candidates = []
        with bar("int8 recipes", len(recipes)) as advance:
            for name in recipes:
                candidates.append(self.candidate(name))
                advance(1, name)
        return candidates

    def candidate(self, name: str, recipe: Recipe | None = None, left: Collection[str] = ()) -> CandidateResult:
        """Make one candidate; `recipe` is what its name says, if not given."""
        file = self.folder / f"{name}.onnx"
        try:
            make_candidate(self.prepared, file, recipe or RECIPES[name], self.feeds, {*self.left, *left})
        except ModelFileError as error:
            return CandidateResult(name=name, file=file, verdict=f"failed: {error.problem}")
        model = load(file)
        if reason := left_behind(model, Graph(load(self.fp32)).opset):
            return CandidateResult(name=name, file=file, verdict=f"rejected: {reason}")
        strip(model)
        self._describe(model, f"int8 {name}")
        write_sealed(file, model.SerializeToString())
        return self.policy.vetoed(CandidateResult(name=name, file=file), self.feeds)

    def _describe(self, model: "onnx.ModelProto", precision: str) -> None:
        """Carry over what the float file says about itself, and name the precision where effxfer wrote the file."""
        about = load(self.fp32).metadata_props
        if "labels" not in {entry.key for entry in about}:
            model.metadata_props.extend(about)
        else:
            write_metadata(model, replace(read_metadata(self.fp32), precision=precision))
