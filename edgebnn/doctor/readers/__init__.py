"""Readers of model files: ONNX and TFLite, anybody's."""
