"""`python -m train` in a clone, `python -m edgebnn.train` where edgebnn is installed."""

import sys

from edgebnn.train.command import main

from edgebnn.errors import exit_on_user_error

if __name__ == "__main__":
    with exit_on_user_error():
        main(sys.argv[1:])
