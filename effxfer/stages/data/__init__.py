"""Stages before training: rank backbones, find wrong labels, and keep splits consistent."""
