"""The controller: it looks, decides one act, and does it. Killed anywhere, it comes to the same end.

acceptance.py  has acceptance fallen? A sequential test over windows, valid at every look. Pure
assembly.py    the real world of one workspace, put together from its configuration
cursor.py      reading what was added to the files of a folder since the last look
decide.py      the laws: what to do next, from memory, policy and what was seen. Pure
forecast.py    what retraining is worth and what it costs, in hours. Pure
hands.py       the real world: what the controller looks at, and how each act is carried out
jobs.py        the run in hand, as a job of this machine that is found again after a restart
journal.py     the controller's journal on disk, one event a file, and the lock that makes it the only one
live.py        the served engine's own counters, look by look
managed.py     the hands of a managed service: what serves is brought to what the journal says
memory.py      the journal, folded into what is remembered. Pure
notify.py      telling people of what matters, through apprise
rollout.py     the laws of live traffic: shares, guards, fallback, restoring. Pure
sides.py       which configurations are to serve, and with what share of live traffic. Pure
tick.py        one look, one act: the intent first, then the effect
traffic.py     new traffic, window by window: counted, sampled, profiled, set beside what the champion knows
words.py       acts and the journal in words. Pure
"""
