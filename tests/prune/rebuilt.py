"""Run by a test in a fresh process: rebuild every saved network and say whether its outputs are bit-equal."""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from effxfer.net.edits import rebuild
from effxfer.runtime.images.preprocess import Preprocess


def main(folder):
    torch.set_num_threads(1)
    for file in sorted(folder.glob("*.json")):
        told, tensors = json.loads(file.read_text()), load_file(file.with_suffix(".safetensors"))
        expected, example = tensors.pop("expected"), tensors.pop("example")
        net = rebuild(told["backbone"], told["edits"], Preprocess.from_json(told["preprocess"]), told["classes"]).eval()
        net.load_state_dict(tensors)
        with torch.inference_mode():
            same = torch.equal(net(example), expected)
        masked = sum(int((net.get_parameter(n)[~k] != 0).sum()) for n, k in net.masks().items())
        sys.stdout.write(json.dumps({"name": file.stem, "same": same, "revived": masked}) + "\n")


main(Path(sys.argv[1]))
