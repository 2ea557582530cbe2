"""The SCIM 2.0 door: identity providers say who joins, moves and leaves. What they say is kept here as they said it; what
it means for a person is made true in the inventory, for the one identity that a row is linked to by rule or by an
administrator. Nothing that comes in here gives anybody anything: no portal role, no access, no link to a portal user."""
