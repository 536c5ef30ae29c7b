"""Files, processes, clock, a cluster's API: the only place that touches the world outside directly."""
