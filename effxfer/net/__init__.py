"""Networks that remember how to rebuild themselves."""
