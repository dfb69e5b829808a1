"""Layers as the product of two smaller ones."""
