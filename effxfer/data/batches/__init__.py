"""From decoded images to augmented batches."""
