"""Several processes: how they start, where they run, what they share."""
