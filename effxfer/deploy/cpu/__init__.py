"""Target CPUs of int8 files: which instructions they have, and what those do to the sums."""
