"""pytest plugins that must be there before Django reads its settings, and what needs a process of its own."""
