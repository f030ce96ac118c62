"""TFLite files: Larq Compute Engine's, and plain ones."""
