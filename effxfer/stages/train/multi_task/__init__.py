"""What a network of several tasks is compared with."""
