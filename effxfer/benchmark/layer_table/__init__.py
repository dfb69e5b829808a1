"""What single layers cost on this machine: a table of measurements, and what lies between them."""
