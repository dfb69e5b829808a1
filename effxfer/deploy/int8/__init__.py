"""Int8 candidates of an exported file: how they are made, judged and chosen."""
