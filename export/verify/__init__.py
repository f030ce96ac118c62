"""Checks that an exported file computes the same as the network it was made from."""
