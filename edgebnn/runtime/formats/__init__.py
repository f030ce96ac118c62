"""The file formats that a device reads."""
