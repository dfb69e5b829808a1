"""Inspect and run ONNX files of unknown origin in a child process with limits."""
