"""Draft trainers behind one small protocol."""
