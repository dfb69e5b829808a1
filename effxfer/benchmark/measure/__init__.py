"""What is measured beside latency: cold start, memory, size, time per operator."""
