"""Throughput and latency on the GPU: what is measured, how, and in which state the GPU was."""
