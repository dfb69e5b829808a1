"""Recovery without training: least squares, BatchNorm statistics."""
