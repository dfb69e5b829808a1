"""The stage runner: from a model to a model directory, skipped when done, resumed when cut off."""
