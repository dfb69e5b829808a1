"""Finding the best head for given features."""
