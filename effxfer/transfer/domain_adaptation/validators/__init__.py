"""Label-free validators: choose an epoch for a target domain without its labels; higher is better."""
