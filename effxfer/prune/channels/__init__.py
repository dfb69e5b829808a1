"""Removal of channels: importance, selection, latency targets."""
