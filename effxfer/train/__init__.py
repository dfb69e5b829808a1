"""The one training loop, the one evaluation, and what they stand on."""
