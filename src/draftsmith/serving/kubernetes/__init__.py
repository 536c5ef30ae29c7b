"""The standing configuration of a Kubernetes deployment: read from its arguments, switched by a patch with the old value as its
precondition, taken back if the rollout fails.

    options.py        `[serving.options]` of draftsmith.toml when `serving.kind = "kubernetes"`
    owners.py         who else writes a served object
    patch.py          the text of a promotion
    rollout.py        how far a rollout is, from the object and its pods
    rollout_watch.py  following a rollout until its end is known
    serving.py        the standing configuration of a vLLM server in Kubernetes
    standing.py       the standing deployment as Draftsmith sees it
"""
