"""Append-only events: who decided or did what, when, about what. Everyone writes it, it imports nobody, and the
database refuses to change or remove a row."""
