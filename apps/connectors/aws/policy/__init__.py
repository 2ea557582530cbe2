"""The IAM policy language, offline: reading documents, matching patterns, deciding one request."""
