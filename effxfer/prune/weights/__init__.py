"""Pruning of single weights: masks, selection, lottery tickets."""
