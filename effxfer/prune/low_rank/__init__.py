"""Low-rank factorisation: ranks by cost, and factors by the outputs of layers on images."""
