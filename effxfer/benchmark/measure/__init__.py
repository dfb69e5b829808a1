"""Measurements other than latency: cold start, memory, size, time per operator."""
