"""Certifying: bounded campaigns over standing access, their items, reviewers, decisions and sign-off."""
