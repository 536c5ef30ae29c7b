"""The phases of the loop. Each plans a job from what is known and judges the job's result; it performs nothing.

base.py      what a phase is: it plans a job from what is known, and judges the job's result
capture.py   phase 3: capture the target's hidden states
compare.py   phase 5
corpus.py    phase 2: choose and clean the training rows
identity.py  what makes a job the same job, and the common part of every job plan of a run
pipeline.py  the loop, in order
profile.py   phase 1: measure the traffic
publish.py   phase 7: write the evidence bundle and the report
shards.py    what the results of a phase amount to that ran as several shards at the same time
train.py     phase 4: train, choose the checkpoint by acceptance, package and lint
way.py       which way a run goes: it trains a draft, or compares a method that needs none
"""
