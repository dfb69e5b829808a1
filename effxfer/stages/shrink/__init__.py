"""Equal-latency competition of all ways of making a network faster."""
