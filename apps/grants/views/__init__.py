"""Pages about grants: looking at them and ending them, and the credentials of those that a broker mints."""
