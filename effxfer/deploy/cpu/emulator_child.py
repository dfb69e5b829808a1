"""The process on an emulated CPU: run one model and write its outputs, without importing effxfer."""

import json
import os
import sys
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before ONNX Runtime is imported: it reads this once


def main() -> None:
    """Run a model on an array of images and write its outputs side by side; the first argument names the files."""
    import numpy as np
    import onnxruntime

    ask: dict[str, Any] = json.loads(sys.argv[1])
    options = onnxruntime.SessionOptions()
    # Severity 3 is errors: about an unknown CPU, ONNX Runtime only warns.
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = 1, 1, 3
    session = onnxruntime.InferenceSession(ask["file"], options, providers=["CPUExecutionProvider"])
    images, name = np.load(ask["images"]), session.get_inputs()[0].name
    step = ask["batch"]
    # Beside logits stand the features of a file of prototypes, which nobody asked for.
    outputs = [output.name for output in session.get_outputs() if output.name != "features"]
    batches = (session.run(outputs, {name: images[at : at + step]}) for at in range(0, len(images), step))
    parts = [np.concatenate(batch, -1) for batch in batches]
    np.save(ask["logits"], np.concatenate(parts))


if __name__ == "__main__":
    main()
