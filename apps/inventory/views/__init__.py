"""The inventory's pages: connections, identities, entitlements, accounts."""
