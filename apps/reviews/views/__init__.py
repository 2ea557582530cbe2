"""Pages: `mine` is a reviewer's desk, `campaigns` what administrators and auditors see."""
