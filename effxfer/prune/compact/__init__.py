"""Compaction of sparse tickets: units without effect are removed, and the rest stays equal."""
