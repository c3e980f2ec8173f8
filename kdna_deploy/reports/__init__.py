"""Results → tables for people and plain data for programs. Nothing here computes."""
