"""Measurements of what must stay fast. Each prints its ratio against a stated limit and fails above 1."""
