"""The dependency graph of a network's channels, and the removal of tied channels."""
