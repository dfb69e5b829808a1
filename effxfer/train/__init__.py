"""The training loop, the evaluation, and their parts."""
