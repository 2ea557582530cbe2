"""Rows for tests, with the fewest facts that make them real. One module for each app."""
