"""Processes: child processes that end with their parent, signals, locks, temporary folders."""
