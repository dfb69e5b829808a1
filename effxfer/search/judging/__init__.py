"""How the heads of a search are judged: folds, metrics, and the comparison with the present head."""
