"""What clients ask and what the target answers: importers, tokens, classes, replay simulation, drift, redaction."""
