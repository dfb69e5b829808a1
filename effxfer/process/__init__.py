"""Processes: child processes that end with their parent, signals, temporary folders."""
