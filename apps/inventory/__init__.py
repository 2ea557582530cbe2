"""What is true in the governed systems: connections, resources, identities, principals, entitlements, assignments with
their periods, credentials; and the sync that reads them."""
