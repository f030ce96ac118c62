"""Measures the packed network beside the networks that a user could deploy instead."""
