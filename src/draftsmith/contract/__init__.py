"""Everything that becomes JSON, and the error tree."""
