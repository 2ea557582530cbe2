"""Asking: the catalogue of offers, access requests, confirmations and approvals. A yes here becomes a grant below."""
