"""Vectors of numbers as a network's input, and the files of arrays that hold them."""
