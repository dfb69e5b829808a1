"""Zero-shot learning: classes known by what is said about them, without examples."""
