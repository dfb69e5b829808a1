"""Other runtimes beside ONNX Runtime: OpenVINO, LiteRT, ExecuTorch."""
