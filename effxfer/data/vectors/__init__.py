"""Vectors of numbers with labels: from arrays in a file to examples, and their audit."""
