"""What people are told: the audit log, followed in commit order, turned into an inbox for each person and mails.
Nothing here decides anything, and nothing is told twice or lost: the log is the outbox, a stored cursor follows it."""
