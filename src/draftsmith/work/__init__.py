"""What runs inside a job, one program a job, and the only place that imports torch or an engine. The job's plan in, progress meanwhile,
result.json last.

    capture.py        job: corpus rows -> hidden states of the target, and the probe that must pass before any training
    corpus.py         job: access records -> corpus/
    job.py            the frame of every job program: plan.json in, progress.json meanwhile, result.json last
    profile.py        job: traffic -> workload-profile.json
    publish.py        job: the evidence bundle and the report of a run, checked by recomputing the verdict
    servers.py        servers of a job: started side by side, always stopped
    sizes.py          bytes that a decode step reads, from the files: for the speed of light
    states.py         asking a capture server for hidden states, row by row, into a private folder
    step_commands.py  what was run, for the evidence
    subprocess.py     running a module of Draftsmith in another interpreter, which need not have Draftsmith installed
    train.py          job: corpus and states -> a draft that the engine loads
    compare/          the comparison as a job: servers, prompts, visits, samples
    inside/           programs for foreign interpreters: inside an engine or a trainer, which need not have Draftsmith installed
    plan/             the forecast job of `draftsmith plan`: what a step costs with a draft, and what that draft must reach
"""
