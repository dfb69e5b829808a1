"""Which channels hang together in a network, and how they are removed from it."""
