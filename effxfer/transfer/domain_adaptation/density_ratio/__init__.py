"""Estimates of how much more frequent an example is in one domain than in another."""
