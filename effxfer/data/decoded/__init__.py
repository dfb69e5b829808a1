"""Decode images once, into memory-mapped files."""
