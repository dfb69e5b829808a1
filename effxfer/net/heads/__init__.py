"""Classifier heads: their specification, their pooling, and how they are built."""
