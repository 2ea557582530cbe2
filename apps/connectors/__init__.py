"""Plain Python that speaks to governed systems: how to read them, how to open and end access there. No Django here."""
