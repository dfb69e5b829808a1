"""Stages after training: export, bench, bundle."""
