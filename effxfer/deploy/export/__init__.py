"""From a network to a checked float32 ONNX file."""
