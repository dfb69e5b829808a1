"""Several data tables as the tasks of one network."""
