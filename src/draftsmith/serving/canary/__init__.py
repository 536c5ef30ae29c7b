"""Canaries: copies of a served deployment, one an arm, for a comparison in the cluster. No router finds them, and they are removed on
every way out.

    canaries.py  canaries in a cluster: checked, announced on disk, created, waited for, and removed on every way out
    check.py     whether canaries may be started: would a router find them, is there an idle node
    reasons.py   why a canary is not there, or not yet: what Jobs, events and quotas say
    ready.py     waiting until canaries serve, and saying why one does not
    removal.py   removing canaries, and remembering on disk that they have to be
    weights.py   where a copy finds its model
    text.py      the objects of one canary arm: a Job (or bare Pod) and its Service, from frozen values
"""
