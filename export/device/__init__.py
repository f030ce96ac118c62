"""Measures model files on a device: this machine, or a machine behind ssh or adb."""
