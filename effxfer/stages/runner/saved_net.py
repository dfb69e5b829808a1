"""Networks within unfinished work: as plain values and tensors, and back."""

import json
from collections.abc import Mapping
from typing import Any

from effxfer.artifact import describe
from effxfer.net.backbones import trust
from effxfer.net.edits import rebuild
from effxfer.net.net import Net
from effxfer.runtime.inputs import input_from_json
from effxfer.train.state import clone


def net_state(net: Net) -> dict[str, Any]:
    """Return a network as a dictionary that `Work.once` can save."""
    weights = {name: tensor.cpu() for name, tensor in clone(net).items()}
    return {**net_outline(net), "weights": weights}


def net_outline(net: Net) -> dict[str, Any]:
    """Return what rebuilds a network, without its weights."""
    files = {name: content.decode() for name, content in net.input.files().items()}
    return {"about": json.dumps(describe(net)), "files": files}


def net_from_state(state: Mapping[str, Any]) -> Net:
    """Rebuild a network on the CPU, in evaluation mode.

    Raises:
        ModelFileError: If its backbone is of a module that the user did not name.
    """
    facts = json.loads(state["about"])
    # A file of unfinished work names code to import: someone else may have written it.
    trust.check_trusted(facts["backbone"], "unfinished work")
    # Work of before has no files, and is of images.
    files = {name: content.encode() for name, content in state.get("files", {}).items()}
    net = rebuild(facts["backbone"], facts["edits"], input_from_json(facts["preprocess"], files), facts["classes"])
    net.load_state_dict(state["weights"])
    return net.eval()
