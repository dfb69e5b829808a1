"""Decoded images: made once, kept in memory-mapped files."""
