"""Run an exported model with onnxruntime, numpy and pillow; imports nothing else of this package, and no torch."""

import os

# Read when ONNX Runtime is imported; here too, because bundles hold a copy of this folder without the rest.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
