"""Compress a pretrained network, adapt it to your task, and export it to a checked ONNX model."""

__version__ = "0.1.0"
