"""The stages that train."""
