"""The phases of the loop. Each has plan() and collect(); the literal tuple is in pipeline.py."""
