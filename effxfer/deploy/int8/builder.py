"""Build the int8 candidates of one float file: with its metadata, and checked against the target's policy."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from effxfer.deploy.export.external_data import write_sealed
from effxfer.deploy.export.few_shot.prototypes import from_prototypes
from effxfer.deploy.export.input_files import copy_input_files
from effxfer.deploy.export.logits import is_decoded, open_model
from effxfer.deploy.export.onnx import load, read_metadata, strip, write_metadata
from effxfer.deploy.export.opset import describe_excess
from effxfer.deploy.graph.graph import Graph
from effxfer.deploy.int8.candidate import make_candidate, suitable_recipes
from effxfer.deploy.int8.evaluation import CandidateResult
from effxfer.deploy.int8.recipes import RECIPES, Recipe
from effxfer.deploy.int8.static import Feeds, match_nodes, prepare
from effxfer.deploy.int8.target_policy import TargetPolicy
from effxfer.errors import ModelFileError
from effxfer.progress import bar
from effxfer.runtime.model_file.metadata import has_contract
from effxfer.runtime.rows import Rows

if TYPE_CHECKING:
    import onnx


def feeds_of(fp32: Path, rows: Rows) -> Feeds:
    """Prepare the input of a file: images, ids and vectors by its own input, other arrays unchanged."""
    if not is_decoded(rows, fp32):
        return Feeds(name=load(fp32).graph.input[0].name, rows=rows, input=None)
    model = open_model(fp32, 1)
    return Feeds(name=model.input_name, rows=rows, input=model.metadata.input)


class CandidateBuilder:
    """Builder of candidates of one float file, in a scratch folder."""

    def __init__(self, fp32: Path, folder: Path, feeds: Feeds, policy: TargetPolicy) -> None:
        self.fp32, self.folder, self.feeds, self.policy = fp32, folder, feeds, policy
        self.prepared = prepare(fp32, folder / "prepared.onnx")
        copy_input_files(fp32, folder)
        self.float_nodes = from_prototypes(load(self.prepared).graph)

    def keep_in_float(self, layers: Sequence[str], operators: Sequence[str]) -> None:
        """Keep layers and operators in float32 in all candidates."""
        self.float_nodes += match_nodes(load(self.prepared).graph, layers, operators)

    def suitable_recipes(self, recipes: Sequence[str]) -> tuple[str, ...]:
        """Replace `auto` by the recipes that suit the network."""
        return suitable_recipes(load(self.prepared).graph, recipes)

    def candidates(self, recipes: Sequence[str]) -> list[CandidateResult]:
        """Make one candidate per recipe."""
        candidates = []
        with bar("int8 recipes", len(recipes)) as advance:
            for name in recipes:
                candidates.append(self.candidate(name))
                advance(1, name)
        return candidates

    def candidate(self, name: str, recipe: Recipe | None = None, float_nodes: Collection[str] = ()) -> CandidateResult:
        """Make one candidate; the default of `recipe` is the recipe of that name."""
        file = self.folder / f"{name}.onnx"
        try:
            make_candidate(self.prepared, file, recipe or RECIPES[name], self.feeds, {*self.float_nodes, *float_nodes})
        except ModelFileError as error:
            return CandidateResult(name=name, file=file, verdict=f"failed: {error.problem}")
        model = load(file)
        if reason := describe_excess(model, Graph(load(self.fp32)).opset):
            return CandidateResult(name=name, file=file, verdict=f"rejected: {reason}")
        # The quantizer copies torch's stack traces.
        strip(model)
        self._describe(model, f"int8 {name}")
        # Sealed here already, so that the size in the report is that of the file which ships.
        write_sealed(file, model.SerializeToString())
        return self.policy.veto(CandidateResult(name=name, file=file), self.feeds)

    def _describe(self, model: "onnx.ModelProto", precision: str) -> None:
        """Copy the float file's metadata; add the precision if effxfer wrote the file."""
        metadata = load(self.fp32).metadata_props
        if not has_contract({entry.key: entry.value for entry in metadata}):
            model.metadata_props.extend(metadata)
        else:
            write_metadata(model, replace(read_metadata(self.fp32), precision=precision))
