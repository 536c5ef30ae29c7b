"""Runs, state and evidence on disk. A file appears whole or not at all; nothing is removed before its successor is verified.

attestation.py       signed verdicts: an in-toto statement over a bundle and its draft, in a DSSE envelope beside the bundle
bundle_check.py      checking a bundle: every file against the manifest, and the verdict against the raw samples
campaigns.py         the journal of campaigns: every comparison that was begun in a workspace, in a hash chain, whether it ended or not
chain.py             the hash chain of samples.jsonl: each trial names the one before it, the first one names the plan
counters.py          counters.json beside the samples it belongs to
evidence.py          an evidence bundle
promotion_policy.py  a file that says what must be signed before a configuration is promoted, and by whom
retention.py         zero retention: after a run nothing but aggregates and the trained draft remains
runs.py              runs on disk
scrub.py             takes secrets and the owner's paths out of text that leaves the workspace
state.py             service-state.json of a workspace
"""
