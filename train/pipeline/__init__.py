"""Recipes: run stages in order, skip finished ones and resume interrupted ones."""
