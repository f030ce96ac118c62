"""Runs `python -m edgebnn.train.bench`."""

from edgebnn.train.bench.step import main

if __name__ == "__main__":
    main()
