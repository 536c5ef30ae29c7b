"""The comparison as a job: servers, prompts, visits, samples. What is compared is frozen before the first visit.

__main__.py      job: the comparison
campaign.py      the comparison, from its job plan to a decision
canary_fleet.py  the arms of a comparison as canaries in a cluster: copies of what serves, beside it, on one node
commands.py      a full server command, as the user wrote it, made startable: host, port, environment, interpreter
evidence.py      report and evidence bundle of a comparison that stands alone
fleet.py         the servers of a comparison
job.py           the comparison as a job: a typed plan in, a typed result out
ledger.py        what a comparison leaves in its folder, and what of it a later start may go on with
loaded.py        what the engine made of a draft, by its own log
measured.py      the frozen plan carried out: one block after the other, visit by visit
memory.py        what a server remembers of its answers, and when it has to forget
meter.py         what the machine did during a visit
pinning.py       what a comparison fixes once and keeps: its prompts, when they are sent, and how they are sampled
preparing.py     before a plan is frozen: warm up, choose K, look at the noise
reach.py         reaching an arm's server: all are up together, or each is started for its visit and stopped after it
spoiled.py       which visits are spoiled by what else the machine did, and how often one is repeated
subjects.py      what a comparison is about, by hashes: its held-out prompts, the rows a draft was trained on, the target's weights
trial.py         one visit
veil.py          names in samples.jsonl, which is handed on: keyed hashes, the key stays in the folder of the comparison
warm.py          before anything counts
"""
