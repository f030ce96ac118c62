"""Infers what a file's network computes: the values of its tensors, its convolutions, and their padding."""
