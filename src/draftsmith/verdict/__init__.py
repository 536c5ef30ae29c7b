"""Statistics and the decision. Pure: no clock, no files, no randomness beyond a seeded generator."""
