"""Runs the command `edgebnn` as `python -m edgebnn`."""

from edgebnn.cli import main

main()
