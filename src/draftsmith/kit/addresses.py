"""Names of this machine's loopback address: what listens or answers there is reached from this machine alone."""

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1")
