"""The latency protocol: runs of several models interleaved, with intervals of their ratios."""
