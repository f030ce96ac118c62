"""Runs `python -m export` in a clone, and `python -m edgebnn.export` where edgebnn is installed."""

import sys

from edgebnn.errors import exit_on_user_error

if __name__ == "__main__":
    # The import takes seconds, and Ctrl-C must work during it too.
    with exit_on_user_error():
        from edgebnn.export.cli import main

        main(sys.argv[1:])
