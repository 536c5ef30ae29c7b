"""Serving engines behind one small protocol."""
