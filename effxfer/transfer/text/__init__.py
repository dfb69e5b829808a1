"""Strategies for texts."""
