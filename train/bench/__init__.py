"""Measures speed and memory of a training step."""
