"""Who may ask for what, at which tier, for how long and who must say yes: Cedar rules and their pure evaluation."""
