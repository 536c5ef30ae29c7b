"""Canaries: copies of a served deployment, one an arm, for a comparison in the cluster."""
