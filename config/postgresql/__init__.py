"""Django's PostgreSQL, with loaders of our own: see `loaders`."""
