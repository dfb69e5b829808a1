"""From a network to files that run elsewhere: ONNX export, its gate, int8."""
