"""Where jobs run, behind one small protocol.

    base.py         the protocol, and the one judgement of how a job ended
    notes.py        job.json: the intent and the handle, written before and after a submission
    shell.py        the shell text around every cluster job, and the exit code it leaves
    local.py        a child process of this machine
    slurm.py        a Slurm cluster: sbatch, squeue, sacct, scancel, sinfo, and nothing else
    slurm_text.py   the text that goes to Slurm, from pure functions
    slurm_parse.py  the text that comes back from Slurm, by pure functions
    slurm_nodes.py  drain and resume of a node that is named for it, while a comparison runs there
    kubernetes.py   a Kubernetes cluster, as batch/v1 Jobs; kubernetes_text.py is the object, kubernetes_judge.py the end

Every back end keeps the same promises: the intent is on disk before anything starts; submitting a name that already
runs adopts it; a job that could not be looked at is UNKNOWN, never FAILED; nothing outlives a cancel.
"""
