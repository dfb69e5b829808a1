"""The stage `clip`: a dual encoder of images and texts."""
