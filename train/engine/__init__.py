"""The parts of a run around a method: optimizers, checkpoints, logs, error messages."""
