"""New classes on the device: learned from a few images, stored beside the model, unknown ones rejected."""
