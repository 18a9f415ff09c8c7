"""The panels, one per file, and the parts that only one of them has."""
