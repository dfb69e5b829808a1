"""Strategies that learn tasks one after another, one file each."""
