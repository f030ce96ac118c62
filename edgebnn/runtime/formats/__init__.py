"""Readers of the file formats that a device needs: ONNX, TFLite and flatbuffers."""
