"""Runs `python -m edgebnn.export.bench`."""

from edgebnn.export.bench.run import main

if __name__ == "__main__":
    main()
