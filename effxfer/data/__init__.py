"""Labelled images: list, check, split and decode them, and serve them to the trainer in batches."""
