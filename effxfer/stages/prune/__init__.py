"""Stages that prune."""
