"""Labelled images: where they are found, what is wrong with them, and how they reach the trainer."""
