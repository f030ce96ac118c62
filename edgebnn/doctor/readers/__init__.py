"""Readers of ONNX and TFLite files, from edgebnn or from other tools."""
