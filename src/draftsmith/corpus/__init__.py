"""Training rows from traffic: selection, splits, deduplication, redaction, the draft's vocabulary."""
