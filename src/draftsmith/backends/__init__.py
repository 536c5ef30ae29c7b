"""Where jobs run, behind one small protocol. Every back end keeps the same promises: the intent is on disk before anything starts;
submitting a name that already runs adopts it; a job that could not be looked at is UNKNOWN, never FAILED; nothing outlives a cancel.

    base.py                the protocol of a back end, and the one judgement of how a job ended
    detect.py              which scheduler is here: facts are gathered in one place, and what follows from them is a pure decision
    kubernetes.py          jobs in a Kubernetes cluster, as batch/v1 Jobs
    kubernetes_detect.py   whether Slurm places the pods of a cluster (slurm-bridge), asked of its API server
    kubernetes_judge.py    how a Job stands or ended, from the evidence at hand: a pure decision
    kubernetes_options.py  `[backend.options]` of draftsmith.toml when `backend.kind = "kubernetes"`
    kubernetes_text.py     the batch/v1 Job of a job: an object from a pure function, nothing is asked or read here
    local.py               jobs as child processes of this machine
    notes.py               `job.json`: what was meant to run, and the handle it was given
    shell.py               the shell text that every job of a cluster is wrapped in, and what it leaves behind
    slurm.py               jobs on a Slurm cluster
    slurm_check.py         whether a cluster could take a job now: everything is checked that can be, before anything is asked for
    slurm_commands.py      the only place that runs a Slurm command
    slurm_judge.py         how a Slurm job ended, from the evidence at hand: a pure decision
    slurm_nodes.py         keeping other jobs off a node while a comparison runs there
    slurm_options.py       `[backend.options]` of draftsmith.toml when `backend.kind = "slurm"`
    slurm_parse.py         what Slurm says, as values: pure functions over the text of squeue, sacct, sinfo and sbatch
    slurm_queue.py         one question for all jobs: squeue, and sacct for those that left the queue; asked again with back-off
    slurm_text.py          the batch script of a job: text from pure functions, nothing is run or read here
"""
