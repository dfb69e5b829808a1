"""Kinds of label, a file each."""
