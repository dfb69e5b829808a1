"""Strategies that train an adapter on a frozen body."""
