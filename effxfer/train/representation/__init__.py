"""How good features are, with labels and without."""
