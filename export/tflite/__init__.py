"""Writes TFLite files: files for the Larq Compute Engine, and plain files."""
