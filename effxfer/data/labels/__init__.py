"""Kinds of label: from the cells of a table to arrays and outputs."""
