"""Tasks that come one after another: what is kept of earlier ones, and folders by date."""
