"""Gatehouse's contexts, one package each; docs/architecture.md draws how they lie on each other."""
