"""Training: `python -m train fit | recipe`. One method a file; a stage is a set of configuration values."""
