"""advance() is pure and decides; the driver performs."""
