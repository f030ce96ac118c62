"""Describes a machine: its hardware, its software and its current state."""
