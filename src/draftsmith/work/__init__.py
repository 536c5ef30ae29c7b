"""What runs inside a job; one file per job. May import torch or an engine."""
