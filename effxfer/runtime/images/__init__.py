"""From an image file to the network's input, with pillow and numpy."""
