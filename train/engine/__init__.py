"""What every run needs around a method: optimizers, checkpoints, logs, failures."""
