"""Edits that make a body smaller: masks of weights, fewer channels, blocks or layers, and layers of a low rank."""
