"""Deciding about access: `offers` keeps the catalogue, `requests` asks, confirms, approves and denies."""
