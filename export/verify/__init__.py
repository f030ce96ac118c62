"""Whether an exported file is the network that it was made from."""
