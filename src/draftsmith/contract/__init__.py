"""Everything that becomes JSON, and the error tree. Values are frozen and closed: an unknown key is an error. A default of a hashed
value never changes; a field with a default may be added.

    access.py          the native access log: one JSON object a line, written by `replay` and by the capture middleware
    base.py            the one base of every value that becomes JSON
    campaign.py        a campaign: arms measured at the shapes of a profile, and the atlas of what came of them
    cluster.py         what Draftsmith's objects in a Kubernetes cluster have in common
    compare_config.py  the settings of a comparison, the section `[compare]`
    config.py          draftsmith.toml: every setting, with its meaning at the field
    context.py         numbers that cannot be printed without their context
    control.py         the controller's vocabulary: states, acts, what it saw, what it remembers, and its journal
    corpus.py          corpus/: rows of engine token ids with a loss mask, and the manifest that describes them
    counters.py        the GPU's own counters beside the trials of a comparison
    draft.py           draft/: a folder that the engine loads, and the manifest beside it
    errors.py          every error Draftsmith raises on purpose
    fit.py             whether a target fits its GPUs: memory by part, for one number of GPUs a server
    frontier.py        what to try next, what it should bring and cost, and what was tried without success
    job.py             a job: one program that a back end runs, in a folder of its own
    jobs.py            what each phase hands to its job and what the job hands back
    measure.py         what a comparison freezes before it measures, and what it records
    model_size.py      how large a model is, by what one decode step reads of it
    plan.py            plan.json
    pods.py            what the status of a pod says of it: a pure judgement, shared by jobs and servers
    policy.py          what the controller may do, and when: the section `[controller]`
    profile.py         workload-profile.json: what the traffic looks like
    speculation.py     what a speculative configuration says
    state.py           service-state.json: the memory of a served model
    verdict.py         the gate's answer
    view.py            what can be read of runs and of the service
    wire.py            the wire of an OpenAI-compatible server
"""
