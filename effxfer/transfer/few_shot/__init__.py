"""Few-shot learning: classes known by a few examples."""
