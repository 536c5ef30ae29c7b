"""Carries a run out. advance() is pure and decides from the journal alone; the driver performs one step at a time, intent first, so that
a process killed at any point reaches the same end when it is run again.

    advance.py    what to do next, from the journal alone
    base.py       what a run is carried out with, and whom it talks to
    driver.py     carries a run out: asks `advance` what is next, does it, writes down what came of it
    jobs.py       one phase as a job: adopted if it lives, submitted otherwise, waited for to its end
    lock.py       one process at a time: in the folder of a run, and at what serves
    promotion.py  promotion and rollback: the only place where the standing configuration changes
    reuse.py      what an earlier run of the workspace made from the same inputs is taken over instead of made again
    served.py     is what serves still what was compared? Asked of the served endpoint, and of where it is served, before a switch
    service.py    what the workspace remembers of the run at hand: service-state.json from its first phase on
    standing.py   a candidate that already serves is recognised before anything is measured
    view.py       reading a run: its phases, its verdict and its report, from the journal and the files on disk
"""
