"""Compress a pretrained network, adapt it to your task, and export it to a checked ONNX model."""

import os

__version__ = "0.1.0"
# Read when ONNX Runtime is imported, here and in every process that inherits it; its own switch comes after it has
# written a device's identity to disk.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
