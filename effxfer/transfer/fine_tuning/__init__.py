"""Fine-tuning: which weights are trained, and when."""
