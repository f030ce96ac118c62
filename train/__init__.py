"""Training: the commands `python -m train fit`, `recipe` and `evaluate`."""
