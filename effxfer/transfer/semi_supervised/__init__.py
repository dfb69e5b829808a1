"""Semi-supervised learning: few labels, many images."""
