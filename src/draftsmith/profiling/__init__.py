"""Traffic measured: one pass over the log, aggregates out. No text leaves a worker process, and memory does not grow with the log.

acceptance.py   expected acceptance of the methods that need no training: sampled requests replayed, class by class
bounded.py      counting with fixed memory: which hashes were seen, and how requests lie on the clock
drift.py        has the traffic moved? Two profiles against each other, judged by how much each differs from itself
fingerprint.py  hashed histograms of traffic, in four parts, so that later traffic can be compared and this traffic's own noise is known
gather.py       folds rows of records into aggregates
lengths.py      token-length distributions
observe.py      one record in, one row of numbers out
parameters.py   sampling parameters as aggregates: what was asked for, without what users wrote
profile.py      the workload profile: one pass over the traffic, aggregates out
recommend.py    which method to use, by the evidence in the profile
scan.py         drives all sources through observers, on several processes where that pays, and folds the results in order
shapes.py       shapes to measure at: representative ones of real traffic, and named bench shapes instead of traffic
simulate.py     what drafting without training would reach
summary.py      a profile for the terminal: what came in, what it is made of, what to do about it
"""
