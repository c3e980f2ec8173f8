"""Checkpoint → network as it was trained."""
