"""The stages that prune."""
