"""Files, processes, clock: the only place that touches the operating system directly."""
