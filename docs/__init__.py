"""Pages of the site, and what generates the others."""
