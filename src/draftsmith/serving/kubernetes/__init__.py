"""The standing configuration of a Kubernetes deployment: read from its arguments, switched by a patch with the old value as its
precondition, taken back if the rollout fails.

    drafts.py         whether the engine of a served container reads a draft as it was trained
    manifests.py      objects as text that `kubectl apply` takes
    nodes.py          whether a node takes a pod: its state, its taints, its labels, and what is free on it
    options.py        `[serving.options]` of draftsmith.toml when `serving.kind = "kubernetes"`
    owners.py         who else writes a served object
    paths.py          what a folder of this machine is called in containers, and whether a container sees it
    patch.py          the text of a promotion
    placement.py      node affinity, the product of a GPU, and whether a GPU is shared
    refusals.py       what the API server refuses, and what is refused to be done there unasked, as errors
    rollout.py        how far a rollout is, from the object and its pods
    rollout_watch.py  following a rollout until its end is known
    serving.py        the standing configuration of a served deployment in Kubernetes
    standing.py       the standing deployment as Draftsmith sees it
"""
