"""Dual encoders of images and texts: the losses of pairs, the module that is trained, and retrieval."""
