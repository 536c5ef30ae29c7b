"""Reading and switching the standing configuration."""
