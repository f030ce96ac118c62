"""Parts of self-supervised training, without a loop: losses, the queue of keys, views. PyTorch."""
