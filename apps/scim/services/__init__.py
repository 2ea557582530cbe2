"""What is decided about identity providers (`sources`), and what becomes of what they say about people (`people`) and
groups (`groups`)."""
