"""Insights: what can be measured about the portal itself, for those who run it and those who audit it. How fast access
begins and how surely it ends, as the grants recorded it from AWS's own answers; for people a page, for programs numbers."""
