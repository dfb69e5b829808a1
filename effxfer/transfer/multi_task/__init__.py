"""Several tasks with one network."""
