"""Pipelines: the TOML file, the runner, the time shared among its steps, the leaderboard of what was tried."""
