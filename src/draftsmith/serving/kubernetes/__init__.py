"""The standing configuration of a Kubernetes deployment: read, patched, rolled out."""
