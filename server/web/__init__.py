"""One request: parse, ask, shape. No SQL and no decisions live here."""
