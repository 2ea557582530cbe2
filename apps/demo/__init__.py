"""A living demo organisation: a company in a local AWS, its people signed up in the portal. Nothing imports it."""
