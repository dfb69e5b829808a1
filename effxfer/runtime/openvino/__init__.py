"""Exported files in OpenVINO, Intel's runtime; needs the package `openvino`, and no onnxruntime."""
