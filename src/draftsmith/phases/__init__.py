"""The phases of the loop: each plans a job from what is known and judges its result. Nothing here performs anything.

| file | what |
|---|---|
| pipeline.py | the phases in order |
| base.py | what a phase is: PhaseContext in, JobPlan out, Gate from the result |
| identity.py | what makes a job the same job, and what every job is told |
| profile.py, corpus.py, capture.py, train.py, compare.py, publish.py | one phase each |
| shards.py | one result for a phase that ran as several jobs |

Laws: what a job is told and answers is typed in contract/jobs.py. The inputs of a job never change for unchanged requests:
runs are resumed, and their files taken over, by them.
"""
