"""Build pretrained bodies from a backbone's name: architecture, weights, trust, and a first forward pass."""
