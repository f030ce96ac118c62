"""ONNX files: portable ones, and packed ones for edgebnn's operator."""
