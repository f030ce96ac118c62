"""Trained networks to ONNX and LCE TFLite files, each verified against PyTorch."""
