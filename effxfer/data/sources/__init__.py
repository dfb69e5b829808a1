"""Where examples come from: folders, tables, built-in data sets."""
