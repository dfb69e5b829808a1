"""How the losses or the gradients of several tasks are weighed."""
