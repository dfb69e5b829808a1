"""ONNX files of unknown origin: looked at and run in a child process with limits."""
