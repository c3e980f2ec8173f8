"""Weights stored as codes of 8 or 4 bits, which runtimes multiply out when a session opens."""
