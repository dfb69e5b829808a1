"""What other tools make of the same task: one network, the same splits and epochs, files judged in one run."""
