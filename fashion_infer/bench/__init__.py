"""How fast, honestly: end to end from encoded bytes, and the network alone."""
