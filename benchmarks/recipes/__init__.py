"""Recipes trained in full, each number with the command that gives it: make results, make results-check."""
