"""Graph → a file for somebody: one folder a target."""
