"""Exports trained networks to ONNX and TFLite files, verifies the files against PyTorch, and measures their speed."""
