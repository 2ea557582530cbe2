"""Tells people: consumes audit events in commit order and turns them into inbox entries and e-mail."""
