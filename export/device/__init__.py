"""Measuring files on a device: this machine, or one behind ssh or adb."""
