"""What a network computes: the values that tensors take, its convolutions and their padding."""
