"""Training in several processes: how they start, where they run, what they exchange."""
