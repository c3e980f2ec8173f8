"""Fused graph → OpenVINO file (IR)."""
