"""vLLM's adapter: everything that knows its flags, logs and metrics."""
