"""`python -m edgebnn`, the command `edgebnn`."""

from edgebnn.cli import main

main()
