"""Measuring latency so that the figures can be defended."""
