"""Rewriting of ONNX graphs."""
