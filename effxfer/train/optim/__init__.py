"""One optimizer step: parameter groups, gradients, micro-batches, averaged weights."""
