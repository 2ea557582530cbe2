"""What is handed to auditors: audit pages, exports and evidence packs that can be checked without trusting the portal."""
