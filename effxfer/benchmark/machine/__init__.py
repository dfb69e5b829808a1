"""Facts of this machine, and checks of its environment."""
