"""Traffic measured: lengths, classes, sampling parameters, replay simulation, drift, the recommendation."""
