"""PyTorch parts of self-supervised training: losses, the queue of keys, views, schedules. No training loop."""
