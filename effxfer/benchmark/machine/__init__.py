"""Facts of this machine, and whether it is fit to measure on."""
