"""Several questions to one network: an output for each task, and predictions by task."""
