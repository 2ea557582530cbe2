"""Who signs in to the portal: users, portal roles, sessions and the step-up that sensitive actions ask for."""
