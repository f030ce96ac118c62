"""Measures the features and classifiers of trained networks."""
