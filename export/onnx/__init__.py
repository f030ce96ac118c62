"""Writes ONNX files: portable files with standard operators, and packed files with edgebnn's operators."""
