"""From a backbone's name to a pretrained body: architecture, weights, trust, and the first look at it."""
