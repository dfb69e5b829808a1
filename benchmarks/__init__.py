"""Speed against plain alternatives; `python -m benchmarks` prints one table."""
