"""Latency, size and memory of exported models side by side; facts about the machine; the environment doctor."""
