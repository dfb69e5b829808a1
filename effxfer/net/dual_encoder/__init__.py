"""Pretrained dual encoders of images and texts from a folder: CLIP as transformers and open_clip store it."""
