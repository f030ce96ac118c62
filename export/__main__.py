"""`python -m export` in a clone, `python -m edgebnn.export` where edgebnn is installed."""

import sys

from edgebnn.errors import exit_on_user_error

if __name__ == "__main__":
    # Importing takes seconds, and Ctrl-C should be answered in them as well.
    with exit_on_user_error():
        from edgebnn.export.cli import main

        main(sys.argv[1:])
