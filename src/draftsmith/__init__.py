"""Draftsmith: a draft model trained on a server's own traffic, promoted only on a measured win."""

__version__ = "0.1.0"
