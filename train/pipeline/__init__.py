"""Recipes: stages in order, resumed where they stopped."""
