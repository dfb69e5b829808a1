"""Bodies of several tasks."""
