"""The ASGI middleware that records live traffic into private files."""
