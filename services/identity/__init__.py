"""Identity: which identifiers are one customer, as a pure function of the evidence, and every event stamped with it."""
