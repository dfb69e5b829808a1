"""Domain adaptation: labels in one domain, use in another."""
