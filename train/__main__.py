"""Runs `python -m train` in a clone, or `python -m edgebnn.train` where edgebnn is installed."""

import sys

from edgebnn.errors import exit_on_user_error
from edgebnn.train.command import main

if __name__ == "__main__":
    with exit_on_user_error():
        main(sys.argv[1:])
