"""How good a trained network's features are."""
