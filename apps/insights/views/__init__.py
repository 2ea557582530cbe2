"""Pages about what the portal measures and what does not look right."""
