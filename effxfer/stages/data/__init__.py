"""Stages before training: backbones compared, labels checked, splits remembered."""
