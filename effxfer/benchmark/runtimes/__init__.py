"""Runtimes other than ONNX Runtime: OpenVINO, LiteRT, ExecuTorch."""
