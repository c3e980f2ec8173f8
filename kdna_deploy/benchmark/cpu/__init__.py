"""What a CPU adds to a bench: cores, caches, cold starts, the roofline, profiles."""
