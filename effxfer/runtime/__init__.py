"""Run an exported model with onnxruntime, numpy and pillow; imports nothing else of this package, and no torch."""
