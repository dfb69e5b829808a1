"""Processes: children that end with their parent, signals, temporary folders."""
