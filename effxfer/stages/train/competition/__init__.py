"""Who competes, and the board of what they reached."""
