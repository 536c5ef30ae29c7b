"""The controller: it looks, decides one act, and does it. Killed anywhere, it comes to the same end.

acceptance.py  has acceptance fallen? A sequential test over windows, valid at every look. Pure
decide.py      the laws: what to do next, from memory, policy and what was seen. Pure
forecast.py    what retraining is worth and what it costs, in hours. Pure
journal.py     the controller's journal on disk, one event a file, and the lock that makes it the only one
memory.py      the journal, folded into what is remembered. Pure
rollout.py     the laws of live traffic: shares, guards, fallback, restoring. Pure
tick.py        one look, one act: the intent first, then the effect
words.py       acts and the journal in words. Pure
"""
