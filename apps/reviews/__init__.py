"""Access reviews: a campaign freezes who holds what, each reviewer keeps or revokes, and a revocation counts as done when
AWS no longer shows the access. Nobody reviews their own."""
